"""The assets of the pages."""

from __future__ import annotations

from pathlib import Path

import pytest
from aws_cdk import App, Stack
from aws_cdk import aws_s3_assets as s3_assets

PAGES = sorted(path.parent for path in Path(__file__).resolve().parents[2].glob("web/*/index.html"))


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("folder", PAGES, ids=lambda folder: folder.name)
def test_asset_of_a_page_has_linked_files(folder, tmp_path):
    # given a page with links to shared files
    assert any(path.is_symlink() for path in folder.rglob("*"))

    # when the CDK stages its asset
    app = App(outdir=str(tmp_path))
    asset = s3_assets.Asset(Stack(app, "Stack"), "Page", path=str(folder))

    # then each link is replaced by its target file
    staged = tmp_path / asset.asset_path
    assert files(staged) == files(folder)
    assert not any(path.is_symlink() for path in staged.rglob("*"))
