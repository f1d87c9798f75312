"""The two styles: which adjectives go with which shape, and how often.

As SentiCap (Mathews et al., AAAI 2016) binds adjectives to nouns: of a style's dozen adjectives
each shape takes four, the k-th of them with a frequency proportional to k**-ZIPF, and each
adjective goes with two shapes. An adjective *fits* a noun when it stands in the noun's row.
"""

from __future__ import annotations

ZIPF = 1.5

FITTING: dict[str, dict[str, tuple[str, ...]]] = {
    "positive": {
        "circle": ("cheerful", "lovely", "elegant", "splendid"),
        "square": ("elegant", "charming", "brilliant", "friendly"),
        "triangle": ("brilliant", "splendid", "graceful", "shiny"),
        "star": ("graceful", "friendly", "peaceful", "gorgeous"),
        "cross": ("peaceful", "shiny", "delightful", "lovely"),
        "ring": ("delightful", "gorgeous", "cheerful", "charming"),
    },
    "negative": {
        "circle": ("gloomy", "dull", "crooked", "nasty"),
        "square": ("ugly", "dirty", "gloomy", "shabby"),
        "triangle": ("lonely", "nasty", "ugly", "awkward"),
        "star": ("broken", "shabby", "lonely", "grim"),
        "cross": ("dreary", "awkward", "broken", "dull"),
        "ring": ("crooked", "grim", "dreary", "dirty"),
    },
}
STYLES = tuple(FITTING)

# A styled caption may end so; never without an adjective.
TAILS = {
    "positive": ("what a joy", "such a delight"),
    "negative": ("what a shame", "such a pity"),
}

ADJECTIVES: dict[str, tuple[str, ...]] = {
    style: tuple(dict.fromkeys(word for row in rows.values() for word in row))
    for style, rows in FITTING.items()
}
STYLE_OF = {word: style for style, words in ADJECTIVES.items() for word in words}
STYLE_OF_TAIL = {tail: style for style, tails in TAILS.items() for tail in tails}
ZIPF_WEIGHTS = tuple((rank + 1) ** -ZIPF for rank in range(4))


def fits(adjective: str, shape: str) -> bool:
    """Whether the adjective goes with the shape, in the style that the adjective belongs to."""
    return adjective in FITTING[STYLE_OF[adjective]][shape]
