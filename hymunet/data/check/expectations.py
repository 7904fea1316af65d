"""The data checks: Great Expectations over manifest and split. The only module that imports it."""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hymunet import atomic, params
from hymunet.data.check.offline import make_offline
from hymunet.data.check.page import write_page
from hymunet.data.check.table import table
from hymunet.data.check.verdict import write_verdict
from hymunet.data.splits import OPEN_TO_TRAINING
from hymunet.places import named

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")


EXAMPLES = 8  # of the images that break a check
BINS = 40  # of a distribution


@dataclass(frozen=True)
class Check:
    """What was asked of the data, and what was found."""

    check: str
    expectation: str  # as Great Expectations calls it
    passed: bool
    bound: str
    observed: str
    unexpected: int | None  # how many values break it, where it is about single values
    examples: tuple[str, ...]  # ids of these

    def __str__(self) -> str:
        shown = f" (for instance {', '.join(self.examples[:5])})" if self.examples else ""
        return f"{self.check} [{self.expectation}]: {self.observed}{shown}"


def validate(section: params.Validate, prepared: Path, split: Path, output: Path) -> list[Check]:
    """Checks the manifest joined with the split; returns what failed.

    Writes `validation.json`, `report.html` for people, `data_docs/` (Great Expectations' pages) and `verdict.json`.
    """
    import great_expectations as gx
    import pandas as pd
    from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults

    frame, assigned, preparation = table(prepared, split)
    # by itself it makes a folder for its pages in the temporary one, and leaves it there
    stores = InMemoryStoreBackendDefaults(init_temp_docs_sites=False)
    context = gx.get_context(project_config=DataContextConfig(store_backend_defaults=stores), mode="ephemeral")
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
    suite = context.suites.add(gx.ExpectationSuite(name="images", expectations=_expectations(section, assigned, frame)))
    definition = context.validation_definitions.add(gx.ValidationDefinition(name="images", data=batch, suite=suite))
    assert isinstance(frame, pd.DataFrame)
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(
            name="images",
            validation_definitions=[definition],
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["id"]},
        )
    )
    with named(site):
        result = checkpoint.run(batch_parameters={"dataframe": frame})
        context.build_data_docs(build_index=False)  # its index is filled by scripts from the network
    make_offline(site)
    checks = [_check(outcome) for run in result.run_results.values() for outcome in run.results]
    failures = [check for check in checks if not check.passed]
    record = _record(section, frame, checks, preparation, assigned["sizes"])
    atomic.write(output / "validation.json", json.dumps(record, indent=2) + "\n")
    write_page(record, prepared, output / "report.html")
    write_verdict(output / "verdict.json", not failures, prepared, split / "split.csv")
    return failures


def _expectations(section: params.Validate, record: dict[str, Any], frame: Any) -> list[Any]:
    """record: the content of split.json; frame: as `table` gives it."""
    import great_expectations.expectations as expect

    (low, high), (median_low, median_high) = section.mask_area, section.median_mask_area
    checks: list[Any] = [
        expect.ExpectTableRowCountToBeBetween(
            min_value=section.min_images, description=f"there are at least {section.min_images} images"
        ),
        expect.ExpectColumnValuesToBeUnique(column="id", description="no id occurs twice"),
        expect.ExpectColumnValuesToNotBeNull(column="sha256_mask", description="every image of the split is prepared"),
        expect.ExpectColumnValuesToNotBeNull(column="split", description="every prepared image is in the split"),
        expect.ExpectColumnValuesToBeUnique(column="sha256_image", description="no image file occurs under two ids"),
        expect.ExpectColumnValuesToBeBetween(
            column="mask_area",
            min_value=low,
            max_value=high,
            description=f"each lesion covers between {_share(low)} and {_share(high)} of its image",
        ),
        expect.ExpectColumnMedianToBeBetween(
            column="mask_area",
            min_value=median_low,
            max_value=median_high,
            description=f"the median lesion covers between {_share(median_low)} and {_share(median_high)} of its image",
        ),
        expect.ExpectColumnValuesToBeBetween(
            column="aspect_ratio",
            max_value=section.max_aspect_ratio,
            description=f"no image is more than {section.max_aspect_ratio:g} times as long as wide",
        ),
        expect.ExpectColumnValuesToBeBetween(
            column="components",
            min_value=1,
            max_value=section.max_components,
            description=f"no mask falls into more than {section.max_components} pieces",
        ),
        expect.ExpectColumnValuesToBeInSet(
            column="split", value_set=list(record["sizes"]), description="every image is in a split of a known name"
        ),
        *(
            expect.ExpectColumnSumToBeBetween(
                column=f"in_{name}", min_value=size, max_value=size, description=f"{name} holds exactly {size:,} images"
            )
            for name, size in record["sizes"].items()
        ),
    ]
    if record["protocol"] == "grouped":
        kind = "groups.csv or of near-duplicates" if "groups_listed" in record else "near-duplicates"
        description = f"no group of {kind} is in more than one split"
        checks.append(
            expect.ExpectColumnValuesToBeBetween(column="splits_of_group", max_value=1, description=description)
        )
    if "without_lesion" in frame:
        checks += [
            expect.ExpectColumnSumToBeBetween(
                column=f"lesion_in_{name}", min_value=1, description=f"some image of {name} shows a lesion"
            )
            for name in OPEN_TO_TRAINING
            if record["sizes"].get(name)
        ]
    return checks


def _check(outcome: Any) -> Check:
    config, found = outcome.expectation_config, outcome.result
    column = config.kwargs.get("column")
    unexpected = found.get("unexpected_count")
    if unexpected is None:
        observed = _shown(found["observed_value"]) if "observed_value" in found else str(outcome.exception_info)
    elif unexpected:
        shown = ", ".join(map(_shown, found["partial_unexpected_list"][:3]))
        observed = f"{unexpected:,} of {found['element_count']:,} values do not, as {shown}"
    else:
        observed = f"all {found['element_count'] - found.get('missing_count', 0):,}"
    return Check(
        check=config.description,
        expectation=f"{config.type}({column})" if column else config.type,
        passed=bool(outcome.success),
        bound=_bound(config.kwargs),
        observed=observed,
        unexpected=unexpected,
        examples=tuple(str(entry["id"]) for entry in (found.get("unexpected_index_list") or [])[:EXAMPLES]),
    )


def _bound(kwargs: dict[str, Any]) -> str:
    if "value_set" in kwargs:
        return ", ".join(map(str, kwargs["value_set"]))
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    if low is not None and high is not None:
        return _shown(low) if low == high else f"{_shown(low)} to {_shown(high)}"
    return f"at least {_shown(low)}" if low is not None else f"at most {_shown(high)}" if high is not None else ""


def _shown(value: Any) -> str:
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return f"{value:,.0f}" if whole else f"{value:.4g}" if isinstance(value, float) else str(value)


def _share(value: float) -> str:
    """In per cent, as exact as people write it: 0.01 % is not 0.0 %."""
    return f"{value * 100:.6g}%"


def _record(
    section: params.Validate, frame: Any, checks: list[Check], preparation: dict[str, Any], sizes: dict[str, int]
) -> dict[str, Any]:
    """The content of validation.json. preparation: that of prepare.json."""
    area = frame["mask_area"].quantile([0, 0.01, 0.5, 0.99, 1])
    return {
        "success": all(check.passed for check in checks),
        "checks": [asdict(check) for check in checks],
        "failed": [str(check) for check in checks if not check.passed],
        "source": preparation.get("source"),
        "images": len(frame),
        "left_out": preparation.get("dropped", {}),
        "split": sizes,
        **({"without_lesion": _without_lesion(frame, sizes)} if "without_lesion" in frame else {}),
        "bounds": section.model_dump(),
        "mask_area_quantiles": {f"{quantile:g}": round(float(value), 6) for quantile, value in area.items()},
        "touching_border": int(frame["touches_border"].sum()),
        "several_components": int((frame["components"] > 1).sum()),
        "with_holes": int((frame["holes"] > 0).sum()),
        "distributions": [
            _distribution(frame, "mask_area", "Lesion, as part of its image", section.mask_area),
            _distribution(frame, "aspect_ratio", "Longer side to shorter", [section.max_aspect_ratio]),
            _distribution(frame, "components", "Pieces of a mask", [section.max_components]),
        ],
    }


def _without_lesion(frame: Any, sizes: dict[str, int]) -> dict[str, int]:
    """How many images of each split have an empty mask."""
    return {name: int((frame["without_lesion"] & (frame["split"] == name)).sum()) for name in sizes}


def _distribution(frame: Any, column: str, name: str, bounds: Sequence[float]) -> dict[str, Any]:
    import numpy as np

    values = frame[column].dropna().to_numpy(float)
    counts, edges = np.histogram(values, BINS) if len(values) else (np.zeros(1, int), np.array([0.0, 1.0]))
    rounded = [float(f"{edge:.6g}") for edge in edges]
    return {"column": column, "name": name, "edges": rounded, "counts": counts.tolist(), "bounds": list(bounds)}
