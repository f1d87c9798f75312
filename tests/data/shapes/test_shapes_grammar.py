"""The parser against a regular expression spelled out from the same grammar."""

import random
import re

from distgan.data.shapes.grammar import Group, Meaning, parse
from distgan.data.shapes.styles import ADJECTIVES, TAILS
from distgan.data.shapes.world import ShapesOptions, World


def _expression() -> re.Pattern[str]:
    words = "|".join(word for style in ADJECTIVES.values() for word in style)
    colours = "red|orange|yellow|green|blue|purple|white|black"
    vowel = f"(?=[aeiou])(?:(?:{words}) )?(?:(?:large|big|small|little) )?(?:{colours})"
    middle = vowel.replace("(?=[aeiou])", "(?![aeiou])")
    free = vowel.replace("(?=[aeiou])", "")
    one = (
        f"(?:an {vowel}|a {middle})" + " (?:circle|square|triangle|star|cross|ring)"
    )  # the article looks at the word that follows it
    two = f"two {free} (?:circles|squares|triangles|stars|crosses|rings)"
    any_ = f"(?:{one}|{two})"
    relation = "(?:(?:to the )?(?:left|right) of|above|over|below|under)"
    rest = (
        f"(?: and {any_}(?: and {any_})?| with {any_} and {any_}"
        f"| {relation} {any_}(?: and (?:{relation} )?{any_})?)?"
    )
    open_one = "(?:(?:there|here) is |we see |the picture shows )?"
    open_two = open_one.replace(" is ", " are ")
    sentence = (
        f"{open_one}{one}(?:{rest}| and {relation} it {any_})"
        f"|{open_two}{two}(?:{rest}| and {relation} them {any_})"
        f"|{one} is {relation} {any_}|{two} are {relation} {any_}"
    )
    tails = "|".join(tail for ends in TAILS.values() for tail in ends)
    return re.compile(f"(?:{sentence})(?: (?:{tails}))?")


def _mutations(count: int) -> list[str]:
    """Captions of the world, most with words removed, doubled, swapped, replaced or joined on."""
    rng = random.Random(1)
    world = World(ShapesOptions())
    lines = [world.line(style, n) for style in ADJECTIVES for n in range(300)]
    lines += [c.text for n in range(300) for c in world.captions("train", n)]
    vocabulary = sorted({word for line in lines for word in line.split()})
    out = []
    for _ in range(count):
        words = rng.choice(lines).split()
        for _ in range(rng.choice((0, 1, 1, 2))):
            at = rng.randrange(len(words))
            kind = rng.randrange(5)
            if kind == 0 and len(words) > 1:
                del words[at]
            elif kind == 1:
                words.insert(at, words[at])
            elif kind == 2:
                other = rng.randrange(len(words))
                words[at], words[other] = words[other], words[at]
            elif kind == 3:
                words[at] = rng.choice(vocabulary)
            else:
                words[at:at] = rng.choice(lines).split()[: rng.randrange(1, 6)]
        out.append(" ".join(words))
    return out


def test_parser_accepts_exactly_the_language():
    expression = _expression()
    captions = _mutations(6000)
    inside = [bool(expression.fullmatch(caption)) for caption in captions]
    assert 1500 < sum(inside) < 4500
    for caption, expected in zip(captions, inside, strict=True):
        assert (parse(caption) is not None) == expected, caption


def test_meaning():
    assert parse("a lovely large red circle above two blue stars what a joy") == Meaning(
        (Group("red", "circle", "large", "lovely"), Group("blue", "star", two=True)),
        ((0, "above", 1),),
        "what a joy",
    )
    assert parse("there is a red circle and to the left of it a little blue star") == Meaning(
        (Group("red", "circle"), Group("blue", "star", "small")), ((0, "right", 1),)
    )
    both = parse("a red circle below a blue star and a white ring")
    assert both is not None and both.relations == ((0, "below", 1), (0, "below", 2))
    each = parse("a red circle below a blue star and left of a white ring")
    assert each is not None and each.relations == ((0, "below", 1), (0, "left", 2))


def test_outside():
    for caption in (
        "",
        " ",
        "a",
        "red circle",
        "a orange circle",
        "an red circle",
        "a red circles",
        "two red circle",
        "there are a red circle",
        "there is two red circles",
        "a red circle and",
        "a red circle  above a blue star",
        "a red circle above",
        "a red circle above it a blue star",
        "a large lovely red circle",
        "A red circle",
        "a red circle.",
        "a red circle what a joy what a joy",
        "what a joy",
        "we see a red circle is above a blue star",
    ):
        assert parse(caption) is None, caption
