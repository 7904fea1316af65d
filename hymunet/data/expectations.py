"""The data checks: Great Expectations over manifest and split, with Data Docs. The only module that imports it."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hymunet import atomic, params

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")


@dataclass(frozen=True)
class Failure:
    expectation: str
    observed: str
    examples: tuple[str, ...]

    def __str__(self) -> str:
        shown = f" (for instance {', '.join(self.examples)})" if self.examples else ""
        return f"{self.expectation}: {self.observed}{shown}"


def validate(section: params.Validate, prepared: Path, split: Path, output: Path) -> list[Failure]:
    """Checks the manifest joined with the split; writes `validation.json` and `data_docs/` and returns what failed."""
    import great_expectations as gx
    import pandas as pd

    frame = _table(prepared, split)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
    site = output / "data_docs"
    shutil.rmtree(site, ignore_errors=True)
    context.add_data_docs_site(
        "local",
        {
            "class_name": "SiteBuilder",
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(site.resolve())},
        },
    )
    asset = context.data_sources.add_pandas("manifest").add_dataframe_asset("images")
    batch = asset.add_batch_definition_whole_dataframe("all")
    suite = context.suites.add(gx.ExpectationSuite(name="images", expectations=_expectations(section, split)))
    definition = context.validation_definitions.add(gx.ValidationDefinition(name="images", data=batch, suite=suite))
    assert isinstance(frame, pd.DataFrame)
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(
            name="images",
            validation_definitions=[definition],
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["id"]},
        )
    )
    result = checkpoint.run(batch_parameters={"dataframe": frame})
    context.build_data_docs()
    outcomes = [outcome for run in result.run_results.values() for outcome in run.results]
    failures = [_failure(outcome) for outcome in outcomes if not outcome.success]
    _write(output / "validation.json", section, frame, len(outcomes), failures)
    return failures


def _expectations(section: params.Validate, split: Path) -> list[Any]:
    import great_expectations.expectations as expect

    sizes = json.loads((split / "split.json").read_text())["sizes"]
    low, high = section.mask_area
    return [
        expect.ExpectTableRowCountToBeBetween(min_value=section.min_images),
        expect.ExpectColumnValuesToBeUnique(column="id"),
        expect.ExpectColumnValuesToNotBeNull(column="split"),
        expect.ExpectColumnValuesToNotBeNull(column="sha256_mask"),
        expect.ExpectColumnValuesToBeUnique(column="sha256_image"),
        expect.ExpectColumnValuesToBeBetween(column="mask_area", min_value=low, max_value=high),
        expect.ExpectColumnMedianToBeBetween(
            column="mask_area", min_value=section.median_mask_area[0], max_value=section.median_mask_area[1]
        ),
        expect.ExpectColumnValuesToBeBetween(column="aspect_ratio", max_value=section.max_aspect_ratio),
        expect.ExpectColumnValuesToBeBetween(column="components", min_value=1, max_value=section.max_components),
        expect.ExpectColumnValuesToBeInSet(column="split", value_set=list(sizes)),
        *(
            expect.ExpectColumnSumToBeBetween(column=f"in_{name}", min_value=size, max_value=size)
            for name, size in sizes.items()
        ),
        expect.ExpectColumnValuesToBeBetween(column="splits_of_group", max_value=1),
    ]


def _table(prepared: Path, split: Path) -> Any:
    """The manifest joined with the split, and what follows from both; an id on one side only has nulls on the other."""
    import pandas as pd

    for path in (prepared / "manifest.parquet", split / "split.csv", split / "split.json"):
        if not path.is_file():
            raise ValueError(f"{path}: no such file; run the prepare and split steps first")
    record = json.loads((split / "split.json").read_text())
    frame = pd.read_parquet(prepared / "manifest.parquet").merge(pd.read_csv(split / "split.csv"), on="id", how="outer")
    frame["aspect_ratio"] = frame[["width", "height"]].max(axis=1) / frame[["width", "height"]].min(axis=1)
    for name in record["sizes"]:
        frame[f"in_{name}"] = (frame["split"] == name).astype(int)
    grouped = record["protocol"] == "grouped"
    frame["splits_of_group"] = frame.groupby("group")["split"].transform("nunique") if grouped else 1
    return frame


def _failure(outcome: Any) -> Failure:
    config, found = outcome.expectation_config, outcome.result
    column = config.kwargs.get("column")
    name = f"{config.type}({column})" if column else config.type
    if "unexpected_count" in found:
        observed = (
            f"{found['unexpected_count']} of {found['element_count']} values, {found['partial_unexpected_list'][:3]}"
        )
    else:
        observed = f"observed {found.get('observed_value', outcome.exception_info)}"
    bounds = {key: value for key, value in config.kwargs.items() if key.endswith("value") and value is not None}
    examples = tuple(str(entry["id"]) for entry in (found.get("unexpected_index_list") or [])[:5])
    return Failure(f"{name} {bounds}" if bounds else name, observed, examples)


def _write(path: Path, section: params.Validate, frame: Any, checks: int, failures: list[Failure]) -> None:
    area = frame["mask_area"].quantile([0, 0.01, 0.5, 0.99, 1])
    record = {
        "success": not failures,
        "expectations": checks,
        "failed": [str(failure) for failure in failures],
        "images": len(frame),
        "bounds": section.model_dump(),
        "mask_area_quantiles": {f"{quantile:g}": round(float(value), 6) for quantile, value in area.items()},
        "touching_border": int(frame["touches_border"].sum()),
        "several_components": int((frame["components"] > 1).sum()),
        "with_holes": int((frame["holes"] > 0).sum()),
    }
    atomic.write(path, json.dumps(record, indent=2) + "\n")
