"""`launch/prepare.py` as its users call it."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import io
import json
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_samples import Numbers, picture

from distgan.data.dataset import Dataset
from distgan.data.importers.flickr_files import read_captions
from distgan.data.samples import Caption, Sample
from distgan.data.shards import WriteOptions, write_dataset
from distgan.data.verify import verify

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"

_spec = importlib.util.spec_from_file_location("prepare", ROOT / "launch" / "prepare.py")
assert _spec is not None and _spec.loader is not None
program = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(program)

Captured = pytest.CaptureFixture[str]


def prepare(*words: object) -> int:
    return program.main([str(word) for word in words])


def contents(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


SHAPES = [
    *("--images", 25, "--val", 4, "--test", 3, "--unlabelled", 5),
    *("--styled", 3, "--lines", 7, "--size", 32),
]


def test_shapes_are_prepared_once_and_verify(tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "deep" / "shapes"
    assert prepare("shapes", *SHAPES, "--out", out, "--jobs", 1, "--shard-samples", 10) == 0
    assert "train: 25 images" in capsys.readouterr().out
    before = contents(out)
    assert prepare("verify", out, "--contents") == 0
    assert "every byte is as it was written" in capsys.readouterr().out
    assert prepare("shapes", *SHAPES, "--out", out, "--jobs", 1, "--shard-samples", 10) == 0
    assert "already prepared" in capsys.readouterr().out
    assert prepare("shapes", *SHAPES, "--out", out, "--val", 5, "--shard-samples", 10) == 2
    assert "holds another dataset (differs in options.val: 4 there, 5" in capsys.readouterr().err
    assert contents(out) == before
    dataset = Dataset.open(out)
    assert len(dataset.split("train")) == 25 and dataset.split("val").facts(0)["scene"]
    assert [len(dataset.texts(style)) for style in dataset.styles] == [7, 7]
    assert prepare("verify", tmp_path / "nowhere") == 1


@pytest.mark.slow
def test_the_number_of_processes_changes_no_byte(tmp_path: Path) -> None:
    for jobs in (1, 2):
        out = tmp_path / str(jobs)
        assert prepare("shapes", *SHAPES, "--out", out, "--jobs", jobs, "--shard-samples", 4) == 0
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_damage_gives_status_one_and_names(tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "shapes"
    prepare("shapes", *SHAPES, "--out", out, "--jobs", 1)
    data = bytearray((out / "val-000000.tar").read_bytes())
    data[700] ^= 1
    (out / "val-000000.tar").write_bytes(data)
    capsys.readouterr()
    assert prepare("verify", out) == 1
    assert "val-000000.tar: val-000000: the image's bytes changed" in capsys.readouterr().out


class Interrupted(Numbers):
    """Stops the first time sample 17 of the training split is asked for."""

    drawn: list[tuple[str, int]] = []  # noqa: RUF012 (shared on purpose: what was asked for)

    def sample(self, split: str, i: int) -> Sample:
        self.drawn.append((split, i))
        if (split, i) == ("train", 17) and self.drawn.count((split, i)) == 1:
            raise KeyboardInterrupt
        return super().sample(split, i)


def test_an_interrupted_call_leaves_nothing_and_goes_on(
    tmp_path: Path, written: Callable[..., Path]
) -> None:
    out, options = tmp_path / "x", WriteOptions(shard_samples=10)
    importer = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        write_dataset(importer, {"name": "numbers"}, out, options)
    assert not out.exists()
    importer.drawn.clear()
    importer.drawn.append(("train", 17))
    assert write_dataset(importer, {"name": "numbers"}, out, options)
    assert ("train", 0) not in importer.drawn, "the first shard was complete"
    assert contents(out) == contents(written())
    assert [path.name for path in tmp_path.glob("*.partial")] == []


def test_what_stands_at_out_is_never_overwritten(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    assert prepare("shapes", *SHAPES, "--out", tmp_path) == 2
    assert "exists and is no dataset" in capsys.readouterr().err
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_shards_are_plain_webdataset(written: Callable[..., Path]) -> None:
    import webdataset

    root = written()
    shard = root / "train-000000.tar"
    dataset = webdataset.WebDataset(str(shard), shardshuffle=False)
    found = list(dataset)
    assert [sample["__key__"] for sample in found] == [f"train{i:03d}" for i in range(10)]
    assert found[3]["jpg"] == picture(3)
    said = json.loads(found[3]["json"])
    assert said["number"] == 3
    assert said["captions"][2] == {"text": "a lovely number 3 !", "style": "cheerful"}


@pytest.mark.parametrize(
    ("sample", "error"),
    [
        (Sample("a.b", b"", "jpg", ()), "key 'a.b'"),
        (Sample("a", b"", "gif", ()), "extension 'gif'"),
        (Sample("a", b"", "jpg", (Caption("..."),)), "a: a caption has no words"),
        (Sample("a", b"", "jpg", (Caption("a", "factual"),)), "style 'factual'"),
        (Sample("a", b"", "jpg", (), {"captions": 1}), "may not hold `captions`"),
    ],
)
def test_impossible_samples_are_refused(tmp_path: Path, sample: Sample, error: str) -> None:
    class One(Numbers):
        def sample(self, split: str, i: int) -> Sample:
            return sample

    with pytest.raises(ValueError, match=error):
        write_dataset(One({"train": 1}), {}, tmp_path / "x", WriteOptions())
    assert not (tmp_path / "x").exists()


def test_double_keys_and_empty_splits_are_refused(tmp_path: Path) -> None:
    class Twins(Numbers):
        def sample(self, split: str, i: int) -> Sample:
            return super().sample(split, i // 2)

    with pytest.raises(ValueError, match=r"keys occur more than once: train: train000"):
        write_dataset(Twins({"train": 4}), {}, tmp_path / "x", WriteOptions())
    with pytest.raises(ValueError, match="split val would be empty"):
        write_dataset(Numbers({"train": 4, "val": 0}), {}, tmp_path / "y", WriteOptions())


def test_foreign_shards_are_indexed_in_place(tmp_path: Path, capsys: Captured) -> None:
    folder = tmp_path / "foreign"
    (folder / "val").mkdir(parents=True)
    members = {
        "train-0000.tar": {
            "a/1.JPEG": picture(1),
            "a/1.json": json.dumps({"caption": "one thing", "url": "u"}).encode(),
            "2.png": picture(2, kind="PNG"),
            "2.txt": b"two things\r\na pair\r\n",
            "3.jpg": picture(3),
            "3.json": b'{"size": 9}',
            "3.txt": b"three\n",
        },
        "val/00000.tar": {
            "9.webp": picture(9, kind="WEBP"),
            "9.json": json.dumps({"captions": [{"text": "nine", "style": "odd"}, "9"]}).encode(),
        },
    }
    for name, files in members.items():
        with tarfile.open(folder / name, "w") as archive:
            for file, data in files.items():
                info = tarfile.TarInfo(file)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    before = contents(folder)
    assert prepare("index", folder) == 0
    assert prepare("verify", folder, "--contents") == 0, capsys.readouterr().out
    assert {name: contents(folder)[name] for name in before} == before
    dataset = Dataset.open(folder)
    train, val = dataset.split("train"), dataset.split("val")
    assert [train.key(i) for i in range(3)] == ["a/1", "2", "3"]
    assert [[c.text for c in train.captions(i)] for i in range(3)] == [
        ["one thing"],
        ["two things", "a pair"],
        ["three"],
    ]
    assert train.facts(0) == {"url": "u"} and train.facts(2) == {"size": 9}
    assert val.captions(0) == [Caption("nine", "odd"), Caption("9")]
    assert train.image_bytes(1) == picture(2, kind="PNG") and val.image(0, 8).shape == (3, 8, 8)
    assert prepare("index", folder) == 2
    assert "has an index already" in capsys.readouterr().err
    assert prepare("index", tmp_path / "nowhere") == 2


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(60):
        (folder / f"{i}_x.jpg").write_bytes(picture(i))
    return folder


def flickr_files(folder: Path) -> tuple[Path, Path, Path]:
    captions, lines, names = (folder / n for n in ("captions.txt", "funny.txt", "names.p"))
    with captions.open("w", newline="") as file:
        rows = [["image", "caption"]]
        rows += [[f"{i}_x.jpg", f"number {i} , plain ."] for i in range(60) for _ in range(2)]
        csv.writer(file).writerows([*rows, ["away.jpg", "nothing"], ["0_x.jpg", ".."]])
    text = [f"funny {i}" for i in range(40)] + [f"caf\u00e9 {i}" for i in range(40)]
    lines.write_bytes("\r\n".join(text).encode("latin-1"))
    images = [f"{i}_x.jpg" for i in range(40)] + [f"away{i}.jpg" for i in range(40)]
    names.write_bytes(pickle.dumps(images, protocol=0))
    return captions, lines, names


def test_flickr_joins_and_reports(tmp_path: Path, photographs: Path, capsys: Captured) -> None:
    captions, lines, names = flickr_files(tmp_path)
    (photographs / "bad.jpg").write_bytes(b"no picture")
    with captions.open("a") as file:
        file.write("bad.jpg,a dog\n")
    given = ("flickr", "--images", photographs, "--captions", captions, "--jobs", 1)
    given += ("--style", "humorous", lines, names)
    assert prepare(*given, "--out", tmp_path / "all") == 0
    said = capsys.readouterr().out
    for line in (
        "found 61 images and 123 captions; 122 captions join",
        "funny.txt is not UTF-8 (byte 393); read as Latin-1",
        "humorous: 80 lines; 40 join an image, 40 become text without images",
        "dropped 1: captions whose image is not there: away.jpg",
        "dropped 1: captions without words: 0_x.jpg '..'",
        "dropped 1: images that cannot be decoded: bad.jpg",
    ):
        assert line in said
    dataset = Dataset.open(tmp_path / "all")
    assert verify(tmp_path / "all", contents=True) == []
    assert dataset.splits == ("train", "val", "test") and dataset.styles == ("humorous",)
    assert sum(len(dataset.split(split)) for split in dataset.splits) == 60
    assert sorted(dataset.texts("humorous")) == sorted(f"caf\u00e9 {i}" for i in range(40))
    split = dataset.split("train")
    for row in range(len(split)):
        i = int(split.key(row).removesuffix("_x"))
        assert split.image_bytes(row) == picture(i)
        styled = [Caption(f"funny {i}", "humorous")] if i < 40 else []
        assert split.captions(row) == [Caption(f"number {i} , plain .")] * 2 + styled
    assert prepare(*given, "--out", tmp_path / "few", "--pairs", 3) == 0
    few = Dataset.open(tmp_path / "few")
    counts, scarce = dataset.manifest.captions, few.manifest.captions
    assert scarce["train"]["humorous"] == 3
    assert scarce["val"] == counts["val"] and scarce["test"] == counts["test"]
    assert len(few.texts("humorous")) == 40 + counts["train"]["humorous"] - 3


def test_a_photographs_split_depends_on_its_name_alone(tmp_path: Path, photographs: Path) -> None:
    captions, _, _ = flickr_files(tmp_path)
    given = ("flickr", "--images", photographs, "--captions", captions, "--jobs", 1)
    given += ("--min-joined", 0.4)

    def place(name: str) -> dict[str, str]:
        assert prepare(*given, "--out", tmp_path / name) == 0
        dataset = Dataset.open(tmp_path / name)
        splits = [dataset.split(s) for s in dataset.splits]
        return {split.key(i): split.name for split in splits for i in range(len(split))}

    before = place("before")
    for i in range(0, 60, 2):
        (photographs / f"{i}_x.jpg").unlink()
    after = place("after")
    assert len(after) == 30 and after.items() <= before.items()


def test_flickr_refuses_what_it_cannot_trust(
    tmp_path: Path, photographs: Path, capsys: Captured
) -> None:
    captions, lines, names = flickr_files(tmp_path)
    out = ("--out", tmp_path / "x", "--jobs", 1)
    given = ("flickr", "--images", photographs, "--captions", captions, *out)
    style = ("--style", "humorous", lines, names)

    def refused(*words: object) -> str:
        assert prepare(*words) == 2
        assert not (tmp_path / "x").exists()
        return capsys.readouterr().err

    names.write_bytes(pickle.dumps([print]))
    assert "names.p: refused" in refused(*given, *style)
    names.write_bytes(pickle.dumps(["a.jpg"]))
    assert "funny.txt has 80 lines, but" in refused(*given, *style)
    assert "absent.txt does not exist" in refused(*given, "--style", "a", "absent.txt", names)
    assert "split val would be empty" in refused(*given, "--fractions", 0.99, 0.005, 0.005)
    assert "fractions must add up to 1" in refused(*given, "--fractions", 0.5, 0.1, 0.1)
    captions.write_text("nonsense\n")
    assert "unknown captions file" in refused(*given)


def test_the_three_forms_of_flickr_captions(tmp_path: Path) -> None:
    expected = [("1.jpg", "A dog , a cat ."), ("1.jpg", "Two | pets"), ("2.jpg", "Sky")]
    forms = {
        "captions.txt": 'image,caption\n1.jpg,"A dog , a cat ."\n1.jpg,Two | pets\n2.jpg,Sky\n',
        "results.csv": "image_name| comment_number| comment\n1.jpg| 0|A dog , a cat .\n"
        "1.jpg| 1|Two | pets\n2.jpg| 0|Sky\n",
        "all.token": "1.jpg#0\tA dog , a cat .\n1.jpg#1\tTwo | pets\n2.jpg#0\tSky\n",
    }
    for name, text in forms.items():
        (tmp_path / name).write_text(text)
        assert list(read_captions(tmp_path / name)) == expected, name
    (tmp_path / "results.csv").write_text("image_name| comment_number| comment\n1.jpg  4 a\n")
    with pytest.raises(ValueError, match=r"results\.csv: line 2 is not 'NAME\| NUMBER\| CAPTION'"):
        list(read_captions(tmp_path / "results.csv"))


@pytest.mark.parametrize("form", ["csv", "jsonl", "txt"])
def test_a_folder_of_images(tmp_path: Path, form: str, capsys: Captured) -> None:
    folder = tmp_path / "mine"
    (folder / "sub").mkdir(parents=True)
    names = [f"sub/{i}.v1.png" if i % 2 else f"{i}.jpg" for i in range(40)]
    for i, name in enumerate(names):
        (folder / name).write_bytes(picture(i, kind="PNG" if i % 2 else "JPEG"))
    said = [f"thing {i}" for i in range(39)] + ["?!"]
    if form == "csv":
        rows = "".join(f"{name},{text}\n" for name, text in zip(names, said, strict=True))
        (folder / "captions.csv").write_text(f"image,caption\n{rows}gone.jpg,a\n")
    elif form == "jsonl":
        lines = [
            json.dumps({"image": name, "captions": [text], "id": i})
            for i, (name, text) in enumerate(zip(names, said, strict=True))
        ]
        (folder / "captions.jsonl").write_text("\n".join(lines))
    else:
        for name, text in zip(names, said, strict=True):
            (folder / name).with_suffix(".txt").write_text(f"{text}\n")
    assert prepare("folder", folder, "--out", tmp_path / "x", "--jobs", 1) == 0
    report = capsys.readouterr().out
    assert "dropped 1: captions without words: sub/39.v1.png '?!'" in report
    assert "dropped 1: images without captions (--unlabelled keeps them): sub/39" in report
    assert ("dropped 1: rows of captions.csv whose image is not there: gone.jpg" in report) == (
        form == "csv"
    )
    dataset = Dataset.open(tmp_path / "x")
    splits = [dataset.split(name) for name in dataset.splits]
    assert sum(map(len, splits)) == 39
    for split in splits:
        for row in range(len(split)):
            i = int(split.key(row).split("_")[1] if "sub" in split.key(row) else split.key(row))
            assert split.captions(row) == [Caption(f"thing {i}")]
            assert split.facts(row).get("id") == (i if form == "jsonl" else None)


def test_a_folder_with_its_own_splits_and_styles(tmp_path: Path, capsys: Captured) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    rows = ["image,caption,style,split"]
    for i in range(6):
        (folder / f"{i}.jpg").write_bytes(picture(i))
        rows.append(f"{i}.jpg,a {i},{'odd' if i % 2 else ''},{'train' if i < 4 else 'dev'}")
    (folder / "captions.csv").write_text("\n".join(rows))
    assert prepare("folder", folder, "--out", tmp_path / "x", "--jobs", 1) == 0
    dataset = Dataset.open(tmp_path / "x")
    assert dataset.manifest.splits == {"dev": 2, "train": 4}
    assert dataset.styles == ("odd",)
    assert "3" in dataset.vocabulary.words and "5" not in dataset.vocabulary.words
    (folder / "captions.csv").write_text("file,title\n0.jpg,a\n")
    assert prepare("folder", folder, "--out", tmp_path / "y") == 2
    assert "captions.csv: line 2: no caption column" in capsys.readouterr().err
    assert prepare("folder", tmp_path / "nowhere", "--out", tmp_path / "y") == 2
    assert "nowhere does not exist" in capsys.readouterr().err


def test_every_command_explains_itself(capsys: Captured) -> None:
    for command in ((), ("shapes",), ("flickr",), ("folder",), ("index",), ("stats",), ("verify",)):
        with pytest.raises(SystemExit) as left:
            prepare(*command, "--help")
        assert left.value.code == 0
        assert "usage: prepare.py" in capsys.readouterr().out


@pytest.mark.skipif(not SHARED.is_dir(), reason="no photographs beside the repository")
@pytest.mark.slow
def test_flickr8k_joins_flickrstyle10k(tmp_path: Path, capsys: Captured) -> None:
    flickr, style = SHARED / "flickr8k_1000", SHARED / "flickrstyle"
    words = ["flickr", "--images", flickr / "images", "--captions", flickr / "captions.txt"]
    for name, stem, short in (("humorous", "funny", "fu"), ("romantic", "romantic", "ro")):
        words += ["--style", name, style / f"{stem}_train.txt", style / f"train_{short}.p"]
    out = tmp_path / "flickr"
    assert prepare(*words, "--out", out, "--jobs", 1) == 0
    said = capsys.readouterr().out
    assert "found 1,000 images and 5,000 captions; 5,000 captions join" in said
    assert said.count("7,000 lines; 866 join an image, 6,134 become text") == 2
    assert "romantic_train.txt is not UTF-8 (byte 181375); read as Latin-1" in said
    assert verify(out, contents=True) == []
    dataset = Dataset.open(out)
    assert sum(dataset.manifest.splits.values()) == 1000
    for name in ("humorous", "romantic"):
        assert sum(counts[name] for counts in dataset.manifest.captions.values()) == 866
        assert len(dataset.texts(name)) == 6134
    split = dataset.split("val")
    assert split.image_bytes(0) == (flickr / "images" / f"{split.key(0)}.jpg").read_bytes()


def test_the_share_of_unknown_words_is_said_for_each_split(
    tmp_path: Path, capsys: Captured
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    said = {"train": ["a red bird", "a red red dog"], "val": ["a blue bird", "A blue, blue cat!"]}
    rows = ["image,caption,split"]
    for i, (split, text) in enumerate((name, t) for name in said for t in said[name]):
        (folder / f"{i}.jpg").write_bytes(picture(i))
        rows.append(f'{i}.jpg,"{text}",{split}')
    (folder / "captions.csv").write_text("\n".join(rows))
    assert prepare("folder", folder, "--out", tmp_path / "x", "--min-count", 2, "--jobs", 1) == 0
    printed = capsys.readouterr().out
    manifest = Dataset.open(tmp_path / "x").manifest
    assert manifest.words == ("red", "a")
    assert manifest.said == {"train": 7, "val": 7} and manifest.unknown == {"train": 2, "val": 5}
    assert "train: 2 images; captions: 2 factual; 28.57% of 7 words unknown" in printed
    assert "val: 2 images; captions: 2 factual; 71.43% of 7 words unknown" in printed
