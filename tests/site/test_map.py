"""The map of models: its table, its fits, its page, and what the page does in a browser."""

import csv
import re
import sys
from datetime import date

import numpy as np
import pytest
from built import ROOT, SITE

sys.path.insert(0, str(ROOT / "book" / "_ext"))
from model_data import LECTURE, Model, fit_growth, numbers, read_models, record_holders
from model_figures import FIGURES, MARKS

TABLE = ROOT / "book" / "models.csv"
MODELS = read_models(TABLE)
FAR_FROM_6ND: dict[str, str] = {}  # a model whose published compute is over four times off: the reason


def made(name, year, flops=None, **fields):
    """A model that is nothing but a date and a compute."""
    day = date(int(year), 1 + int(year % 1 * 12), 1)
    known = dict(openness="open", params=None, active_params=None, tokens=None, sources=("key",)) | fields
    return Model(name, f"{day:%Y-%m-%d}", "Maker", flops_published=flops, **known)


def doubling_every(months, noise=0.0, count=60):
    """Models whose compute doubles in so many months, with noise of so many doublings."""
    generator = np.random.default_rng(1)
    years = np.sort(generator.uniform(2018, 2026, count))
    doublings = 12 / months * (years - 2018) + noise * generator.standard_normal(count)
    return [
        made(str(i), year, 1e20 * 2.0**d) for i, (year, d) in enumerate(zip(years, doublings, strict=True))
    ]


class TestTable:
    def test_it_holds_sixty_models_or_more_each_once(self):
        names = [model.name for model in MODELS]
        assert len(names) >= 60 and len(set(names)) == len(names)

    def test_dates_and_openness_are_of_the_form(self):
        for model in MODELS:
            assert re.fullmatch(r"\d{4}-\d\d(-\d\d)?", model.date)
            assert date(2018, 1, 1) <= model.day <= date(2026, 11, 30)
            assert model.openness in MARKS and model.name.strip() and model.organisation.strip()

    @pytest.mark.parametrize(
        ("field", "low", "high"),
        [
            ("params", 1e6, 1e14),
            ("active_params", 1e6, 1e14),
            ("tokens", 1e8, 1e14),
            ("flops_published", 1e18, 1e28),
        ],
    )
    def test_numbers_are_in_range_or_empty(self, field, low, high):
        known = [getattr(model, field) for model in MODELS if getattr(model, field) is not None]
        assert known and all(low < value < high for value in known)

    def test_active_parameters_are_a_part_of_all(self):
        assert all(m.active_params < m.params for m in MODELS if m.active_params)

    def test_published_compute_is_near_6nd(self):
        for model in MODELS:
            if model.flops_published and model.flops_6nd and model.name not in FAR_FROM_6ND:
                assert 1 / 4 < model.flops_published / model.flops_6nd < 4, model.name

    def test_sources_are_in_the_bibliography(self):
        bibliography = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
        keys = re.findall(r"^@\w+\{([^,\s]+),", bibliography, re.MULTILINE)
        assert len(set(keys)) == len(keys)
        assert all(model.sources and set(model.sources) <= set(keys) for model in MODELS)

    def test_a_source_of_a_number_stands_beside_a_number(self):
        with TABLE.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                for number, source in (
                    ("params", "params"),
                    ("tokens", "tokens"),
                    ("flops_published", "flops"),
                ):
                    assert row[number] or not row[f"{source}_source"], row["name"]

    def test_figures_name_models_of_the_table_that_they_show(self):
        for figure in FIGURES.values():
            for name in (*figure.right, *figure.left):
                [model] = [model for model in MODELS if model.name == name]
                assert figure.value(model)

    def test_figures_have_room_for_every_model(self):
        for figure in FIGURES.values():
            values = [figure.value(model) for model in MODELS if figure.value(model)]
            assert figure.low < min(values) and max(values) < figure.high


class TestFit:
    @pytest.mark.parametrize("months", [4.0, 11.0])
    @pytest.mark.parametrize("records", [False, True])
    def test_it_finds_the_doubling_time_of_made_models(self, months, records):
        growth = fit_growth(doubling_every(months), records)
        assert growth.doubling == pytest.approx(months, rel=0.02)  # dates are rounded to months
        assert growth.flops(2018) == pytest.approx(1e20, rel=0.15)

    def test_the_interval_holds_the_truth_and_narrows_with_more_models(self):
        few, many = (fit_growth(doubling_every(6.0, noise=2.0, count=count)) for count in (20, 320))
        assert few.low < 6 < few.high and many.low < 6 < many.high
        assert many.high - many.low < (few.high - few.low) / 2

    def test_small_models_slow_the_fit_of_all_and_not_of_the_records(self):
        large = doubling_every(6.0)
        small = [made(f"small {i}", 2023 + i / 20, 1e20) for i in range(60)]
        assert fit_growth(large + small).doubling > 1.5 * fit_growth(large).doubling
        records = [fit_growth(models, records=True).doubling for models in (large, large + small)]
        assert records[0] == pytest.approx(records[1])

    def test_records_are_the_models_that_beat_every_earlier_one(self):
        steps = [
            ("a", 2018, 1e20),
            ("b", 2019, 1e22),
            ("c", 2020, 1e21),
            ("d", 2021, 1e22),
            ("e", 2022, 2e22),
        ]
        models = [made(*step) for step in reversed(steps)] + [made("unknown", 2020.5)]
        assert [model.name for model in record_holders(models)] == ["a", "b", "e"]

    def test_a_fit_of_records_is_one_of_the_record_holders(self):
        models = doubling_every(6.0, noise=3.0)
        holders = record_holders(models)
        growth = fit_growth(models, records=True)
        assert growth.count == len(holders) < len(models) / 2
        assert growth.doubling == pytest.approx(fit_growth(holders).doubling)

    def test_compute_is_that_of_active_parameters(self):
        model = made("m", 2024, params=1e11, active_params=1e10, tokens=1e12)
        assert model.flops == 6e22 and model.per_param == 100

    def test_published_compute_stands_in_where_6nd_is_not_known(self):
        assert made("m", 2024, 5e20, params=1e9).flops == 5e20

    def test_too_few_models_are_refused(self):
        with pytest.raises(ValueError, match="three models"):
            fit_growth(doubling_every(6.0, count=2))


def page_text():
    return (SITE / "book" / "map.html").read_text(encoding="utf-8")


class TestPage:
    def test_it_holds_every_model_and_draws_each_whose_numbers_are_known(self):
        page = page_text()
        assert re.findall(r'<tr data-model="(\d+)"', page) == [str(i) for i in range(len(MODELS))]
        drawn = page.split('<figure class="map-figure"')[1:]
        assert len(drawn) == len(FIGURES)
        for figure, html in zip(FIGURES.values(), drawn, strict=True):
            known = [str(i) for i, m in enumerate(MODELS) if figure.value(m) or figure.sizes]
            assert re.findall(r'class="dot[^"]*" data-model="(\d+)"', html.split("</figure>")[0]) == known

    def test_its_prose_has_the_numbers_of_the_table(self):
        page = re.sub(r"<[^>]*>", " ", page_text())
        found = numbers(MODELS)
        for name in (
            "records-doubling",
            "records-interval",
            "all-doubling",
            "all-interval",
            "end-line",
            "holders",
        ):
            assert found[name] in page

    def test_the_lecture_stands_between_the_models(self):
        assert 30 < sum(model.day < LECTURE for model in MODELS) < len(MODELS) - 30
        assert page_text().count('class="then"') == len(FIGURES)

    def test_it_offers_the_table(self):
        [path] = re.findall(r'href="([^"]*models\.csv)"', page_text())
        assert (SITE / "book" / path).resolve().read_bytes() == TABLE.read_bytes()

    def test_it_stays_light(self):
        assert len(page_text()) < 400_000

    def test_only_its_page_loads_its_script(self):
        assert "map.js" in page_text() and "map.css" in page_text()
        assert "map.js" not in (SITE / "book" / "bibliography.html").read_text(encoding="utf-8")


@pytest.fixture
def page(browser, site_url):
    """The page in a browser, which must not complain."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{site_url}book/map.html")
    page.locator(".map-controls").wait_for()
    yield page
    page.close()
    assert not errors


def shown(page):
    """The models of the rows, and of the marks of each figure, that one sees."""
    visible = "els => els.filter(e => e.getClientRects().length).map(e => Number(e.dataset.model))"
    rows = page.locator(".models tbody tr").evaluate_all(visible)
    marks = [page.locator(f"#map-{name} .dot").evaluate_all(visible) for name in FIGURES]
    return rows, dict(zip(FIGURES, marks, strict=True))


def check(page, wanted):
    """Rows, marks and the count must be those of the models that are wanted."""
    rows, marks = shown(page)
    indices = [i for i, model in enumerate(MODELS) if wanted(model)]
    assert rows == indices
    for name, figure in FIGURES.items():
        assert marks[name] == [i for i in indices if figure.value(MODELS[i]) or figure.sizes]
    assert (
        page.locator(".map-controls [role=status]")
        .inner_text()
        .startswith(f"{len(indices)} of {len(MODELS)}")
    )


class TestBrowser:
    def test_all_models_are_shown_at_first(self, page):
        check(page, lambda model: True)

    def test_filters_reduce_marks_and_rows_alike_and_reset_brings_them_back(self, page):
        page.get_by_role("checkbox", name="weights published", exact=True).uncheck()
        check(page, lambda m: m.openness != "weights")
        page.get_by_role("searchbox", name="Organisation").fill("goo")
        check(page, lambda m: m.openness != "weights" and "goo" in m.organisation.lower())
        page.get_by_role("spinbutton", name="From").fill("2021")
        page.get_by_role("spinbutton", name="to", exact=True).fill("2022")
        check(
            page,
            lambda m: m.openness != "weights" and "Google" in m.organisation and 2021 <= m.day.year <= 2022,
        )
        page.get_by_role("button", name="Reset").click()
        check(page, lambda model: True)
        assert page.get_by_role("searchbox", name="Organisation").input_value() == ""

    def test_a_head_sorts_by_number_and_leaves_the_unknown_last(self, page):
        head = page.get_by_role("columnheader", name="Parameters")
        for direction, sign in (("ascending", 1), ("descending", -1)):
            head.get_by_role("button").click()
            assert head.get_attribute("aria-sort") == direction
            sizes = [MODELS[i].params for i in shown(page)[0]]
            known = [size for size in sizes if size]
            assert known == sorted(known, key=lambda size: sign * size)
            assert not any(sizes[len(known) :])
        page.get_by_role("button", name="Reset").click()
        assert shown(page)[0] == list(range(len(MODELS))) and head.get_attribute("aria-sort") == "none"

    def test_pointing_at_a_mark_tells_the_model(self, page):
        index = next(i for i, model in enumerate(MODELS) if model.name == "Chinchilla")
        page.locator(f'#map-ratio .dot[data-model="{index}"]').dispatch_event("pointerenter")
        detail = page.locator("#map-ratio .map-detail")
        for known in ("Chinchilla", "DeepMind", "2022-03-29", "70 B", "1.4 T", "5.9 × 10²³", "5.8 × 10²³"):
            assert known in detail.inner_text()
        assert "Hoffmann" in detail.get_by_role("link").inner_text()
        active = page.locator(".is-active").evaluate_all("els => els.map(e => e.dataset.model)")
        assert set(active) == {str(index)} and len(active) >= 4  # three marks and a row

    def test_the_arrow_keys_lead_from_mark_to_mark(self, page):
        assert page.locator('#map-size .dot[tabindex="0"]').count() == 1
        page.locator('#map-size .dot[tabindex="0"]').focus()
        detail = page.locator("#map-size .map-detail b")
        for key, name in (("ArrowRight", MODELS[1].name), ("End", MODELS[-1].name), ("Home", MODELS[0].name)):
            page.keyboard.press(key)
            assert detail.inner_text() == name
        assert page.locator('#map-size .dot[tabindex="0"]').count() == 1

    def test_a_filter_leaves_a_mark_to_tab_to(self, page):
        page.get_by_role("checkbox", name="weights published", exact=True).uncheck()
        assert page.locator('#map-size .dot[tabindex="0"]:not(.is-hidden)').count() == 1

    def test_no_id_stands_twice(self, page):
        page.locator("#map-size .dot").first.dispatch_event("pointerenter")
        ids = page.locator("[id]").evaluate_all("els => els.map(e => e.id)")
        assert len(set(ids)) == len(ids)

    def test_a_narrow_page_does_not_overflow(self, page):
        page.set_viewport_size({"width": 375, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == 375

    def test_without_scripts_the_figures_and_the_table_stand(self, browser, site_url):
        context = browser.new_context(java_script_enabled=False)
        page = context.new_page()
        page.goto(f"{site_url}book/map.html")
        assert page.locator(".map-svg").count() == len(FIGURES) and page.locator(".models tbody tr").count()
        assert page.locator(".map-controls").is_hidden()
        assert page.locator("#map-size .dot title").first.text_content().startswith("GPT-1, OpenAI")
        context.close()
