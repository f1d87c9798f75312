"""What both critics promise: shapes, padding that is not read, rows that name their image."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from distgan import losses
from distgan.models.critics import (
    Critic,
    GRUCritic,
    RegionAttention,
    TextCNNCritic,
    build_critic,
    seqgan_windows,
)
from distgan.models.decoder import END, PAD

V, T, I, R, K, C, STYLES = 20, 8, 3, 7, 5, 6, 2  # noqa: E741
LENGTHS = (8, 1, 3, 5, 2, 7, 4)


def build(kind: str, **options: object) -> Critic:
    torch.manual_seed(0)
    sizes = {"embedding_size": 8, "hidden_size": 6, "attention_size": 4, "attention_heads": 2}
    make: dict[str, Callable[..., Critic]] = {
        "gru": GRUCritic,
        "gru of two layers": lambda *a, **k: GRUCritic(*a, layers=2, **k),
        "textcnn": lambda *a, **k: TextCNNCritic(*a, windows=((1, 4), (3, 5), (8, 3)), **k),
    }
    return make[kind](V, T, **{**sizes, **options}).double().eval()


KINDS = ("gru", "gru of two layers", "textcnn")
BUILDS = [
    {},
    {"channels": C},
    {"num_styles": STYLES},
    {"channels": C, "num_styles": STYLES},
    {"channels": C, "heads": "separate"},
    {"channels": C, "num_styles": STYLES, "heads": "separate"},
]
every_critic = pytest.mark.parametrize("kind", KINDS)
every_build = pytest.mark.parametrize("options", BUILDS, ids=lambda o: " ".join(map(str, o)) or "-")


@pytest.fixture
def words() -> Tensor:
    words = torch.randint(4, V, (R, T), generator=torch.Generator().manual_seed(1))
    for row, length in enumerate(LENGTHS):
        words[row, length - 1] = END
        words[row, length:] = PAD
    return words


@pytest.fixture
def regions() -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(I, K, C, generator=generator, dtype=torch.float64)


IMAGE = torch.tensor([2, 0, 1, 1, 2, 0, 2])
STYLE = torch.tensor([0, 1, 1])


@every_critic
@every_build
def test_scores_have_a_column_a_head(
    kind: str, options: dict[str, object], words: Tensor, regions: Tensor
) -> None:
    critic = build(kind, **options)
    scores = critic(words, critic.look(regions, STYLE), IMAGE)
    assert scores.shape == (R, critic.num_scores)
    assert critic.num_scores == (2 if "heads" in options else 1)
    assert scores.std(0).min() > 1e-6  # rows differ


@every_critic
@every_build
def test_padding_is_not_read(
    kind: str, options: dict[str, object], words: Tensor, regions: Tensor
) -> None:
    critic = build(kind, **options)
    context = critic.look(regions, STYLE)
    scores = critic(words, context, IMAGE)
    for row, length in enumerate(LENGTHS):
        short = critic(words[row : row + 1, :length], context, IMAGE[row : row + 1])
        assert torch.allclose(short[0], scores[row], atol=1e-12)
    noise = torch.randn(R, T, 8, dtype=torch.float64)
    real = losses.mask(words)
    embedded = torch.where(real[..., None], critic.embed(words), noise)
    other = critic.forward_embedded(embedded, real, context, IMAGE)
    assert torch.allclose(other, scores, atol=1e-12)


@every_critic
@every_build
def test_rows_do_not_influence_each_other_and_images_need_no_repeating(
    kind: str, options: dict[str, object], words: Tensor, regions: Tensor
) -> None:
    critic = build(kind, **options)
    scores = critic(words, critic.look(regions, STYLE), IMAGE)
    repeated = critic(words, critic.look(regions[IMAGE], STYLE[IMAGE]), torch.arange(R))
    assert torch.allclose(repeated, scores, atol=1e-12)
    for row in range(R):
        context = critic.look(regions[IMAGE[row]][None], STYLE[IMAGE[row]][None])
        alone = critic(words[row : row + 1], context, torch.zeros(1, dtype=torch.int64))
        assert torch.allclose(alone[0], scores[row], atol=1e-12)


def changed(before: Tensor, after: Tensor) -> list[bool]:
    return [(column.abs() > 1e-9).all().item() for column in (after - before).T]


@every_critic
@every_build
def test_each_score_sees_what_it_should_and_no_more(
    kind: str, options: dict[str, object], words: Tensor, regions: Tensor
) -> None:
    critic = build(kind, **options)
    scores = critic(words, critic.look(regions, STYLE), IMAGE)
    other_image = critic(words, critic.look(regions.roll(1, 0), STYLE), IMAGE)
    other_style = critic(words, critic.look(regions, 1 - STYLE), IMAGE)
    other_words = critic(words.masked_fill(words > 3, 4), critic.look(regions, STYLE), IMAGE)
    image, style = critic.sees_image, critic.sees_style
    if critic.num_scores == 2:
        assert changed(scores, other_image) == [False, True]
        assert changed(scores, other_style) == [style, False]
    else:
        assert changed(scores, other_image) == [image]
        assert changed(scores, other_style) == [style]
    rows = torch.tensor(LENGTHS) > 1  # a lone `END` is left as it was
    assert all(changed(scores[rows], other_words[rows]))


@every_critic
def test_where_the_regions_are_matters(kind: str, words: Tensor, regions: Tensor) -> None:
    """Positions are in the regions' channels: moving one region's content changes the score."""
    critic = build(kind, channels=C)
    moved = regions.clone()
    moved[:, 0], moved[:, 1] = regions[:, 0] + 1, regions[:, 1] - 1  # the mean stays
    scores = critic(words, critic.look(regions, None), IMAGE)
    assert changed(scores, critic(words, critic.look(moved, None), IMAGE)) == [True]


@every_critic
def test_text_alone_gets_the_text_score(kind: str, words: Tensor, regions: Tensor) -> None:
    critic = build(kind, channels=C, num_styles=STYLES, heads="separate")
    both = critic(words, critic.look(regions, STYLE), IMAGE)
    text = critic(words, critic.look(None, STYLE), IMAGE)
    assert torch.equal(text[:, 0], both[:, 0])
    assert torch.equal(text[:, 1], torch.zeros(R, dtype=torch.float64))


@every_critic
def test_embedded_words_score_as_words_do(kind: str, words: Tensor, regions: Tensor) -> None:
    critic = build(kind, channels=C, num_styles=STYLES)
    context = critic.look(regions, STYLE)
    embedded = critic.forward_embedded(critic.embed(words), losses.mask(words), context, IMAGE)
    assert torch.allclose(embedded, critic(words, context, IMAGE), atol=1e-12)
    one_hot = nn.functional.one_hot(words, V).double() @ critic.embedding.weight
    assert torch.allclose(critic.embed(words), one_hot)


@every_critic
@every_build
def test_the_gradient_penalty_reaches_the_weights(
    kind: str, options: dict[str, object], words: Tensor, regions: Tensor
) -> None:
    critic = build(kind, **options)
    fake = words.roll(1, 0)
    mask = losses.mask(words) | losses.mask(fake)
    weight = torch.full((R,), 1 / R, dtype=torch.float64)

    def penalty() -> Tensor:
        context = critic.look(regions, STYLE)
        return losses.gradient_penalty(
            lambda x: critic.forward_embedded(x, mask, context, IMAGE).sum(1),
            critic.embed(words),
            critic.embed(fake),
            mask,
            torch.linspace(0.1, 0.9, R),
            weight,
        )

    with torch.no_grad():  # slopes of order one, so that the penalty is not flat
        for score in critic.scores:
            score.weight.mul_(20)
    penalty().backward()
    parameter = critic.scores[0].weight
    got, step = parameter.grad[0, 0].item(), 1e-6
    with torch.no_grad():
        parameter[0, 0] += step
    up = penalty().item()
    with torch.no_grad():
        parameter[0, 0] -= 2 * step
    want = (up - penalty().item()) / (2 * step)
    assert got == pytest.approx(want, rel=1e-4, abs=1e-7)
    assert critic.embedding.weight.grad is None  # the embedded captions are constants


@every_critic
@pytest.mark.parametrize("which", ["dropout", "word_dropout"])
def test_dropout_is_off_when_scoring(kind: str, which: str, words: Tensor) -> None:
    critic = build(kind, **{which: 0.5})
    context = critic.look(None, None)
    assert torch.equal(critic(words, context, IMAGE), critic(words, context, IMAGE))
    critic.train()
    assert not torch.equal(critic(words, context, IMAGE), critic(words, context, IMAGE))


@every_critic
@every_build
def test_every_weight_learns_and_none_is_a_batch_statistic(
    kind: str, options: dict[str, object], words: Tensor, regions: Tensor
) -> None:
    critic = build(kind, **options)
    critic(words, critic.look(regions, STYLE), IMAGE).square().sum().backward()
    for name, parameter in critic.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    assert not list(critic.buffers())


def test_attention_agrees_with_loops() -> None:
    torch.manual_seed(3)
    attention = RegionAttention(4, C, 6, heads=2).double()
    states, regions = torch.randn(1, 2, 4).double(), torch.randn(1, K, C).double()
    keys, values = attention.look(regions)
    got = attention(states, keys, values)
    for t in range(2):
        query, expected = attention.query(states[0, t]), attention.expected(states[0, t])
        found = []
        for head in (slice(0, 3), slice(3, 6)):
            energies = [(query[head] @ keys[0, k, head]).item() / 3**0.5 for k in range(K)]
            shares = torch.tensor(energies).double().softmax(0)
            found.append(sum(shares[k] * values[0, k, head] for k in range(K)))
        want = torch.cat([*found, torch.cat(found) * expected])
        assert torch.allclose(got[0, t], want)


def test_a_bidirectional_gru_reads_a_caption_as_torchs_own_does(words: Tensor) -> None:
    critic = build("gru")
    ours = critic.reader
    torchs = nn.GRU(8, 6, batch_first=True, bidirectional=True).double()
    for name, parameter in ours.onward[0].named_parameters():
        torchs.get_parameter(name).data.copy_(parameter.data)
        torchs.get_parameter(f"{name}_reverse").data.copy_(ours.back[0].get_parameter(name).data)
    states = ours(critic.embed(words), losses.mask(words))
    for row, length in enumerate(LENGTHS):
        want = torchs(critic.embed(words[row : row + 1, :length]))[0][0]
        assert torch.allclose(states[row, :length], want, atol=1e-12)


def test_windows_are_the_authors_for_their_lengths() -> None:
    authors = {**dict.fromkeys(range(2, 6), 200), **dict.fromkeys(range(6, 11), 100)}
    assert dict(seqgan_windows(16)) == {1: 100, **authors, 15: 160, 16: 160}
    assert dict(seqgan_windows(20)) == {1: 100, **authors, 15: 160, 20: 160}
    assert sum(maps for _, maps in seqgan_windows(16)) == 1720
    for length in range(1, 25):
        widths = [width for width, _ in seqgan_windows(length)]
        assert widths == sorted(set(widths)) and widths[-1] == length


@pytest.mark.parametrize("name, kind", [("gru", GRUCritic), ("textcnn", TextCNNCritic)])
def test_critics_are_built_by_name(name: str, kind: type[Critic], words: Tensor) -> None:
    critic = build_critic(name, V, T, num_styles=STYLES, embedding_size=4, hidden_size=4)
    assert isinstance(critic, kind)
    assert critic(words, critic.look(None, STYLE), IMAGE).shape == (R, 1)
    critic.train()  # none of the dropouts is on unless asked for
    context = critic.look(None, STYLE)
    assert torch.equal(critic(words, context, IMAGE), critic(words, context, IMAGE))


def test_what_a_user_may_get_wrong() -> None:
    with pytest.raises(ValueError, match=r"critic must be one of .* got 'lstm'"):
        build_critic("lstm", V, T)
    with pytest.raises(ValueError, match="heads must be joint or separate, got 'both'"):
        build("gru", heads="both")
    with pytest.raises(ValueError, match="heads=separate needs an image"):
        build("gru", heads="separate")
    with pytest.raises(ValueError, match="needs regions"):
        build("gru", channels=C).look(None, None)
    with pytest.raises(ValueError, match="style=None"):
        build("gru", num_styles=2).look(None, None)
    with pytest.raises(ValueError, match="9 words, max_length=8"):
        critic = build("textcnn")
        critic(torch.full((1, 9), 5), critic.look(None, None), torch.zeros(1, dtype=torch.int64))
