"""Watch how the person feels, across all processes and devices, and react to it.

    python examples/mood_watch.py          # one terminal
    python examples/mood_watch.py happy    # another: records a reading, the first one hears of it
"""

from __future__ import annotations

import contextlib
import sys

import aico_crdt

MOODS = {"happy": (0.8, 0.6), "calm": (0.4, 0.1), "sad": (-0.6, 0.2), "angry": (-0.7, 0.9)}


def main() -> None:
    """Record the mood named on the command line, or print every change of state until interrupted."""
    if len(sys.argv) > 1 and sys.argv[1] not in MOODS:
        raise SystemExit(f"There is no mood {sys.argv[1]!r} here; choose one of {', '.join(MOODS)}.")
    with aico_crdt.open_store(create=True) as store:
        if len(sys.argv) > 1:
            valence, arousal = MOODS[sys.argv[1]]
            store.emotions.record("user", primary=sys.argv[1], valence=valence, arousal=arousal, confidence=0.8)
            return
        with store.watch("emotion") as changes:
            for change in changes:
                if change.id == "user":
                    state = store.emotions.state("user")
                    agreed = f"agreement {state.agreement:.0%}"
                    print(f"{state.primary} (valence {state.valence:+.2f}, {agreed})", flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is how one stops watching
        main()
