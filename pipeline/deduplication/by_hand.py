"""Clusters of which a person chose the picture that stays: it takes the place of the one that stood for them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from surd.pipeline.tables import Tables


def swap_by_hand(tables: Tables, keys: Sequence[str]) -> None:
    """Table ``images`` from ``images_found``, and ``chosen``: key and turn of the records that stay of their clusters.

    ``keys``: the chosen records, the one that wins over others of its cluster first. All rows of its cluster go with
    it, also a copy that was compared with the former row alone; so their likeness to it is not known, but whether they
    have the same bytes.
    """
    with tables.writing("chosen", pa.schema([("key", pa.string()), ("turn", pa.int64())])) as chosen:
        for turn, key in enumerate(keys):
            chosen.add({"key": key, "turn": turn})
    tables.make(
        "in_place",
        """SELECT coalesce(i.image, c.key) AS former, arg_min(c.key, h.turn) AS key
           FROM candidates c LEFT JOIN images_found i ON i.rank = c.rank JOIN chosen h ON h.key = c.key
           GROUP BY former HAVING former <> arg_min(c.key, h.turn)""",
    )
    tables.make(
        "images",
        """SELECT i.rank, i.image, i.distance, i.difference, i.flipped, i.distance IS NULL AS same_bytes,
                  false AS by_hand
           FROM images_found i ANTI JOIN in_place p ON p.former = i.image
           UNION ALL
           SELECT c.rank, p.key, NULL, NULL, NULL, c.sha256 = s.sha256, true
           FROM ranked c LEFT JOIN images_found i ON i.rank = c.rank
                JOIN in_place p ON p.former = coalesce(i.image, c.key) JOIN ranked s ON s.key = p.key
           WHERE c.key <> p.key""",
    )
