"""A made-up world of coloured shapes: scenes, their pictures, their language and its truth.

`world.World` says what a dataset holds; `truth.score` says what captions are worth.
"""
