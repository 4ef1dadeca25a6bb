"""Every name there is to measure, in the order of the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bench import links, reads, receiving, sizes, text, writes
from bench.measure import Bench, Result

NAMES: Mapping[str, Callable[[Bench], Result]] = {
    measure.__name__: measure
    for measure in (
        writes.append_durable,
        writes.append_group,
        reads.read_row,
        reads.read_last_50,
        reads.open_cold,
        receiving.ingest,
        links.first_sync,
        links.resync_noop,
        links.resync_ten,
        links.live_latency,
        sizes.emotion_register_size,
        sizes.store_bytes,
        text.text_b4,
    )
}
