"""VIA's files: regions of every kind, the attribute that is the class, CSV, and versions 1 and 3."""

import csv
import io
import json

import pytest
from tool_files import picture, via_region, write

from seg_det.data.via import read_via
from seg_det.errors import UserError

RECT = {"name": "rect", "x": 1, "y": 2, "width": 10, "height": 20}


@pytest.fixture
def regions_read(tmp_path):
    """A function that writes the regions of a.png and reads them."""
    picture(tmp_path / "a.png")

    def read(*regions, **more):
        entry = {"filename": "a.png", "size": 12, "regions": list(regions), "file_attributes": {}}
        write(tmp_path / "via.json", {"a.png12": entry})
        return read_via(root=tmp_path, **more)

    return read


def with_attributes(**values):
    return {"shape_attributes": RECT, "region_attributes": values}


def test_every_region_with_an_area(regions_read):
    polygon = {"name": "polygon", "all_points_x": [10, 60, 40], "all_points_y": [6, 6, 30]}
    shapes = [
        RECT,
        polygon,
        {"name": "circle", "cx": 20, "cy": 30, "r": 5},
        {"name": "ellipse", "cx": 20, "cy": 30, "rx": 5, "ry": 10.5, "theta": 0},
    ]
    source = regions_read(*(via_region(shape, " x") for shape in shapes))
    assert source.records[0].boxes.tolist() == [[1, 2, 11, 22], [10, 6, 60, 30], [15, 25, 25, 35], [15, 19.5, 25, 40.5]]
    assert [c.name for c in source.categories] == ["x"] and source.problems == ()
    mask = regions_read(via_region(polygon, "x"), kind="segmentation").records[0].mask
    assert mask.regions[0].outline[0].tolist() == [10, 6, 60, 6, 40, 30]


@pytest.mark.parametrize(
    ("region", "sentence"),
    [
        (
            via_region({"name": "polyline", "all_points_x": [1, 2], "all_points_y": [1, 2]}, "x"),
            "is a polyline, which is not",
        ),
        (
            via_region({"name": "ellipse", "cx": 9, "cy": 9, "rx": 5, "ry": 3, "theta": 0.5}, "x"),
            "is an ellipse turned by 0.5",
        ),
        (
            via_region({"name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": [1]}, "x"),
            "lacks numbers of its outline",
        ),
        (via_region({"name": "rect", "x": 1}, "x"), "lacks numbers of its outline"),
        (via_region(RECT, "  "), "has no class"),
        (via_region(RECT, {"x": True, "y": True, "z": False}), "has 2 values of 'kind', not one"),
        ("no region", "has no class"),
    ],
)
def test_regions_that_are_wrong(region, sentence, regions_read):
    with pytest.raises(UserError, match=rf"via.json: a.png, region 2 \(.*\) {sentence}"):
        regions_read(via_region(RECT, "x"), region)
    assert regions_read(via_region(RECT, "x"), region, on_bad="skip").lost == (0, 1)


def test_points_are_counted(regions_read):
    source = regions_read(via_region(RECT, "x"), via_region({"name": "point", "cx": 1, "cy": 2}, "p"))
    assert source.problems[0].startswith("points are not read, only what has an area: 1 (first: ")


def test_which_attribute_is_the_class(regions_read):
    assert [c.name for c in regions_read(with_attributes(colour="red")).categories] == ["red"]
    assert [c.name for c in regions_read(with_attributes(colour={"red": False, "blue": True})).categories] == ["blue"]
    both = with_attributes(colour="red", size="big")
    with pytest.raises(
        UserError, match="regions have the attributes colour, size: set dataset.attribute=colour, or the"
    ):
        regions_read(both)
    assert [c.name for c in regions_read(both, attribute="size").categories] == ["big"]
    with pytest.raises(
        UserError, match="no region has the attribute 'kind' .there are colour, size.: set dataset.attribute"
    ):
        regions_read(both, attribute="kind")
    with pytest.raises(
        UserError, match=r"have no attribute that could be the class: .* or set dataset.categories=\[NAME\]"
    ):
        regions_read(with_attributes())
    assert regions_read(with_attributes(), categories=["balloon"]).records[0].labels.tolist() == [0]


def test_a_project_and_its_folder_of_images(tmp_path):
    image = picture(tmp_path / "pictures" / "a.png")
    entry = {
        "filename": "a.png",
        "size": 12,
        "regions": {"0": via_region(RECT, "x")},
        "file_attributes": {},
    }  # version 1
    settings = {"core": {"default_filepath": "pictures/"}}
    write(tmp_path / "p.json", {"_via_settings": settings, "_via_img_metadata": {"a": entry}, "_via_attributes": {}})
    record = read_via(root=tmp_path).records[0]
    assert record.path == image and record.boxes.tolist() == [[1, 2, 11, 22]]
    write(tmp_path / "p.json", {"_via_img_metadata": {"a": {"regions": []}}})
    with pytest.raises(UserError, match="p.json: the entry 'a' has no filename"):
        read_via(root=tmp_path)


def test_a_table(tmp_path):
    picture(tmp_path / "a.png"), picture(tmp_path / "b.png")
    stream = io.StringIO()
    table = csv.writer(stream)
    heads = "file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    table.writerow(["#filename", *heads.split(",")])
    table.writerow(["a.png", 12, "{}", 1, 0, json.dumps(RECT), json.dumps({"kind": "x, y"})])
    table.writerow(["b.png", 12, "{}", 0, 0, "{}", "{}"])
    write(tmp_path / "via.csv", stream.getvalue())
    source = read_via(root=tmp_path)
    assert [r.boxes.tolist() for r in source.records] == [[[1, 2, 11, 22]], []]
    assert [c.name for c in source.categories] == ["x, y"]
    many = {"name": "polygon", "all_points_x": [1, 40, 9] * 20_000, "all_points_y": [1, 9, 40] * 20_000}
    table.writerow(["a.png", 12, "{}", 1, 0, json.dumps(many), json.dumps({"kind": "z"})])
    write(tmp_path / "via.csv", stream.getvalue())
    assert read_via(root=tmp_path).records[0].boxes.tolist() == [[1, 2, 11, 22], [1, 1, 40, 40]]
    table.writerow(["b.png", 12, "{}", 1, 0, "{", "{}"])
    write(tmp_path / "via.csv", stream.getvalue())
    with pytest.raises(UserError, match="via.csv, line 5: no row of VIA's table"):
        read_via(root=tmp_path)


def test_a_project_of_version_3(tmp_path):
    picture(tmp_path / "a.png"), picture(tmp_path / "b.png")
    project = {
        "project": {"pid": "__VIA_PROJECT_ID__", "vid_list": ["1", "2"]},
        "attribute": {
            "1": {"aname": "kind", "anchor_id": "FILE1_Z0_XY1", "type": 4, "options": {"0": "pear", "1": "fig"}}
        },
        "file": {
            "1": {"fid": "1", "fname": "a.png", "type": 2, "loc": 1, "src": ""},
            "2": {"fid": "2", "fname": "b.png"},
        },
        "view": {"1": {"fid_list": ["1"]}, "2": {"fid_list": ["2"]}},
        "metadata": {
            "1_a": {"vid": "1", "flg": 0, "z": [], "xy": [2, 1, 2, 10, 20], "av": {"1": "1"}},
            "1_b": {"vid": "1", "flg": 0, "z": [], "xy": [7, 10, 6, 60, 6, 40, 30], "av": {"1": "0"}},
            "1_c": {"vid": "1", "flg": 0, "z": [], "xy": [], "av": {}},
        },
    }
    write(tmp_path / "p.json", project)
    source = read_via(root=tmp_path)
    assert [r.boxes.tolist() for r in source.records] == [[[1, 2, 11, 22], [10, 6, 60, 30]], []]
    assert [c.name for c in source.categories] == ["fig", "pear"] and source.records[0].labels.tolist() == [0, 1]
    project["view"]["1"]["fid_list"] = ["1", "2"]
    write(tmp_path / "p.json", project)
    with pytest.raises(UserError, match="ValueError: a region on the view 1, which does not show one file"):
        read_via(root=tmp_path)
    project["view"]["1"]["fid_list"] = ["9"]
    write(tmp_path / "p.json", project)
    with pytest.raises(UserError, match="p.json is no sound project of VIA 3 .KeyError: '9'"):
        read_via(root=tmp_path)
