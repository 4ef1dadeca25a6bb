"""Trust: who a device is, whom it belongs to, who reads what and who may do what.

- :mod:`~aico_crdt.trust.identity`: one seed; signatures, CURVE keys, sealed boxes.
- :mod:`~aico_crdt.trust.statement`: found, admit, revoke, as bytes.
- :mod:`~aico_crdt.trust.space`: audiences and their keys.
"""

from __future__ import annotations
