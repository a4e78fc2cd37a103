"""The documentation is complete: each option, error, event and metric stands in it as it is in the code."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def load_generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["settings.md", "errors.md", "events.md", "metrics.md", "sandbox.md"])
def test_the_reference_is_what_the_code_says(name):
    """`python docs/generate.py` was run after the last change."""
    page = load_generator().PAGES[name]()
    assert (ROOT / "docs/reference" / name).read_text("utf-8") == page


def test_every_option_says_what_it_does():
    """An option without a help text would leave a hole in the documentation."""
    from gatepost.settings import Loaded, Settings, options

    assert [one.name for one in options(Loaded(settings=Settings(), origins={}, data_dir=Path())) if not one.help] == []


def test_the_architecture_fits_on_its_page_and_names_every_package():
    """At most 200 lines, and a newcomer finds each package in it."""
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    assert len(text.splitlines()) <= 200
    packages = [path.name for path in (ROOT / "src/gatepost").iterdir() if path.is_dir() and path.name != "__pycache__"]
    modules = [path.name for path in (ROOT / "src/gatepost").glob("*.py") if not path.name.startswith("__")]
    assert [name for name in [*packages, *modules] if name not in text] == []


def test_links_between_the_documents_lead_somewhere():
    """No relative link in the documentation is broken."""
    import re

    broken = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            if "://" not in target and not (page.parent / target).exists():
                broken.append((page.name, target))
    assert broken == []
