"""Every picture is drawn, the same bytes each time, from ordinary and from odd results; warnings are errors."""

import matplotlib
import numpy as np
import pytest
from PIL import Image

from simfer.stages import plots
from simfer.stages.model.outputs import Layout, Output, Status
from simfer.stages.plots import figures
from simfer.stages.plots.densities import smooth, smooth_2d
from simfer.stages.plots.figures import broken
from simfer.stages.plots.kept import Again
from simfer.stages.plots.layout import lay_out
from simfer.stages.plots.posterior import _interval
from simfer.stages.plots.verdicts import _share
from simfer.stages.report import svg
from simfer.stages.studies.power_law import PowerLaw

pytestmark = pytest.mark.filterwarnings("error")
RANDOM = np.random.default_rng(0)
NORMAL = RANDOM.normal(size=(4, 300))
NAN = np.full((4, 300), np.nan)
STATUS = RANDOM.choice([Status.OK, Status.MAX_STEPS, Status.NOT_FINITE], 300, p=[0.8, 0.1, 0.1]).astype(np.int8)
TIMES = np.linspace(0.0, 10.0, 25)
STEPS = np.arange(0, 300, 3)
LOSS = np.exp(NORMAL[:, :100]).T
LAYOUT = Layout({"y": Output(("time",), {"time": TIMES}, "kg"), "k": Output(unit="$"), "decades": Output()})
TRUTH = np.concatenate([RANDOM.normal(size=(40, 25)), np.ones((40, 1)), np.exp(3 * RANDOM.normal(size=(40, 1)))], 1)
SD = np.where(np.arange(27) == 25, 0.0, 0.1)
EMULATED = TRUTH + SD * RANDOM.normal(size=TRUTH.shape)
DIVERGENT = NORMAL > 2
ODD = (np.nan, np.inf, 0, -1)


def panel(dim="time", x=TIMES, replicated=NORMAL[:, :25]):
    """Return data with a coordinate, unless told otherwise."""
    return plots.Panel("y", "kg", dim, "s", x, replicated[0], replicated, TIMES, NORMAL[:, :25])


def field(scale=1.0):
    """Return an output over two dimensions."""
    simulated = scale * np.outer(np.sin(np.arange(5)), np.cos(np.arange(7)))
    return plots.Field("v", "m", ("y", "x"), np.arange(5.0), np.arange(7.0), simulated, 1.01 * simulated)


def data_map(scale=1.0):
    """Return data over two dimensions."""
    y, x = (axis.ravel().astype(float) for axis in np.mgrid[:5, :7])
    return plots.Map("v", "m", ("y", "x"), y, x, scale * np.sin(y + x), scale * np.sin(y), np.full(35, abs(scale)))


def figure(value, threshold=0.5, passed=True, larger=False):
    """Return one figure of a verdict."""
    return {"figure": "k_hat", "value": value, "threshold": threshold, "passed": passed, "larger_is_better": larger}


def ranked(name, cost=1.0):
    """Return what a comparison says of one architecture."""
    return {"architecture": name, "median": 0.1 * cost, "percentile_99": cost, "gradient_us": cost, "training_s": cost}


NINE = [ranked(str(i), float(i + 1)) for i in range(9)]
POINTS = [{"simulations": n, "percentile_99": 9.0 / n, "median": 1.0 / n} for n in (64, 128, 256, 512)]
LAW = PowerLaw.fit(2.0 ** np.arange(6, 10), np.array([0.2, 0.08, 0.03, 0.02]))
RISING = PowerLaw.fit(2.0 ** np.arange(6, 10), np.array([0.02, 0.03, 0.03, 0.09]))


def influence(num=3, dims=(), nan=False, output="log of y"):
    """Return indices of an output, some of which may not exist."""
    shape = (num, *(len(x) for x in dims))
    each = np.where(RANDOM.random(shape) < 0.2, np.nan if nan else 0.5, RANDOM.random(shape))
    ends = np.full(num, np.nan) if nan and not dims else RANDOM.random(num)
    places = {f"axis {i} [s]": x for i, x in enumerate(dims)}
    return plots.Influence(output, ends, 0.1 * ends, ends, 0.1 * ends, places, each, each)


PARAMETERS = [r"$\alpha$", "beta", "prey_0"]
CASES = {
    "compare": (plots.compare, NINE, {str(i): (0.5 + i, 1.5 + i) for i in range(9)}, "data sigma", 0.5),
    "compare, one alone": (plots.compare, [ranked("a $ b")], {"a $ b": (1.0, 1.0)}, "spread", None),
    "curve": (plots.curve, POINTS, LAW, 0.005, "data sigma", 0.68),
    "curve, target met": (plots.curve, POINTS, LAW, 5.0, "data sigma", 0.68),
    "curve that rises": (plots.curve, POINTS, RISING, 0.001, "spread", 0.68),
    "tuning": (plots.tuning, [("complete", 0.1), ("fail", None), ("pruned", 0.3), ("complete", 0.05)], {"width": 1.0}),
    "tuning, one trial": (plots.tuning, [("complete", 0.1)], {}),
    "design": (plots.design, {"a": NORMAL[0], "b": np.exp(3 * NORMAL[1])}, STATUS, {"a": r"$\alpha$ [1/s]"}),
    "design of one": (plots.design, {"a": NORMAL[0]}, STATUS),
    "design, all failed": (plots.design, {"a": NORMAL[0], "b": NORMAL[1]}, np.full(300, 3, np.int8)),
    "design, NaN where failed": (plots.design, {"a": np.where(STATUS, np.nan, NORMAL[0]), "b": NORMAL[1]}, STATUS),
    "design, nothing finite": (plots.design, {"a": NAN[0], "b": NORMAL[0]}, STATUS),
    "design of eight": (plots.design, {str(i): NORMAL[0] for i in range(8)}, STATUS),
    "design of a constant": (plots.design, {"a": np.zeros(300), "b": NORMAL[1]}, STATUS, {"a": "$^$ no mathematics"}),
    "design, nothing": (plots.design, {"a": np.zeros(0), "b": np.zeros(0)}, np.zeros(0, np.int8)),
    "failures": (plots.failures, STATUS, {"a": NORMAL[0], "b": np.exp(3 * NORMAL[1])}, ("a", NORMAL[0]), [0.3]),
    "failures, boundary": (plots.failures, STATUS, {"a": NORMAL[0], "b": NORMAL[1]}, ("a + b", NORMAL[2]), [0.3],
                           (NORMAL[0, :9], NORMAL[1, :9])),
    "failures of one": (plots.failures, STATUS, {"a": np.exp(3 * NORMAL[1])}, ("a", np.exp(3 * NORMAL[1])), [0.1, 9]),
    "failures, all": (plots.failures, STATUS[:10] * 0 + 3, {"a": NORMAL[0, :10], "b": NORMAL[1, :10]},
                      ("a", NORMAL[0, :10])),
    "failures, a row": (plots.failures, np.ones(1, np.int8), {"a": NORMAL[0, :1]}, ("a", NORMAL[0, :1])),
    "failures, of a constant": (plots.failures, STATUS, {"a": np.ones(300), "b": NORMAL[1]}, ("a", np.ones(300))),
    "losses": (plots.losses, STEPS, LOSS, 2 * LOSS, np.array([0, 90, 200, 297])),
    "losses of one": (plots.losses, STEPS, LOSS[:, :1], LOSS[:, :1], np.array([200])),
    "losses, negative": (plots.losses, STEPS, LOSS - 1, LOSS - 1, np.array([0, 90, 200, 297])),
    "losses, not finite": (plots.losses, STEPS, NAN.T[:100], LOSS / 0.1, np.array([0, 90, 200, 297])),
    "losses, nothing finite": (plots.losses, STEPS, NAN.T[:100], NAN.T[:100], np.zeros(4, int)),
    "losses, one step": (plots.losses, STEPS[:1], LOSS[:1], LOSS[:1], np.zeros(4, int)),
    "held out": (plots.held_out, LAYOUT, TRUTH, EMULATED, np.broadcast_to(SD, TRUTH.shape)),
    "held out, NaN": (plots.held_out, LAYOUT, np.full_like(TRUTH, np.nan), EMULATED, np.ones_like(TRUTH)),
    "fields": (plots.fields, [field(), field(2.0)], 30),
    "maps": (plots.maps, [data_map(), data_map(2.0)]),
    "maps, constant or not finite": (plots.maps, [data_map(0.0), data_map(np.nan)]),
    "fields, constant or not finite": (plots.fields, [field(0.0), field(np.nan)], 30),
    "trace": (plots.trace, {"a": NORMAL, "b": np.exp(3 * NORMAL)}, DIVERGENT),
    "trace of one": (plots.trace, {"a": NORMAL[:1]}, np.zeros((1, 300), bool)),
    "trace of a constant": (plots.trace, {"a": np.ones((2, 300)), "b": NORMAL[:2]}, DIVERGENT[:2]),
    "pair": (plots.pair, {"a": NORMAL, "b": np.exp(3 * NORMAL)}, DIVERGENT, {"a": r"$\alpha$"}, {"a": NORMAL[0]}),
    "pair of a line": (plots.pair, {"a": NORMAL, "b": 2 * NORMAL, "c": np.ones_like(NORMAL)}),
    "pair of one": (plots.pair, {"a": NORMAL[:1]}, None, None, {"a": NORMAL[0], "b": NORMAL[0]}),
    "pair, few draws": (plots.pair, {"a": NORMAL[:1, :1], "b": NORMAL[1:2, :1]}, None, None, {"a": NORMAL[0, :2]}),
    "pair, NaN": (plots.pair, {"a": NAN, "b": np.exp(3 * NORMAL)}, DIVERGENT, None, {"a": NORMAL[0], "b": NORMAL[0]}),
    "predictive": (plots.predictive, [panel()]),
    "predictive, no coordinate": (plots.predictive, [panel(""), panel(), panel("", replicated=np.ones((4, 1)))]),
    "predictive, repeated": (plots.predictive, [panel(x=np.repeat(TIMES[:5], 5)), panel(x=np.zeros(25))]),
    "predictive, not finite": (plots.predictive, [panel(replicated=NAN[:, :25]), panel("", replicated=NAN[:, :25])]),
    "predictive, decades": (plots.predictive, [panel(replicated=np.exp(5 * NORMAL[:, :25]))] * 5),
    "predictive, decades of time": (plots.predictive, [panel(x=np.geomspace(1e-4, 1e5, 25))]),
    "verdict": (plots.verdict, [figure(0.3), figure(0.9, passed=False), figure(0.9, larger=True)]),
    "verdict, odd": (plots.verdict, [figure(v, passed=False, larger=up) for v in ODD for up in (0, 1)]),
    "verdict, nothing": (plots.verdict, []),
    "influences": (plots.influences, [influence()], PARAMETERS, 0.95),
    "influences, many": (plots.influences, [influence(12)] * 40, PARAMETERS * 4, 0.9),
    "influences on a constant": (plots.influences, [influence(nan=True, output="$")] * 2, PARAMETERS, 0.95),
    "influences along": (plots.influences_along, [influence(dims=[TIMES]), influence(dims=[TIMES**2])], PARAMETERS),
    "influences along decades": (plots.influences_along, [influence(dims=[10.0 ** np.arange(-5, 5)])], PARAMETERS),
    "influences along, many": (plots.influences_along, [influence(12, [TIMES], True)] * 9, PARAMETERS * 4),
    "influences over a field": (plots.influences_over, [influence(8, [TIMES, TIMES[:5]], True)], [*"abcdefgh"]),
    "influences over a field by one": (plots.influences_over, [influence(1, [TIMES, TIMES])] * 9, ["a"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_picture_is_drawn(case, tmp_path):
    draw, *arguments = CASES[case]
    before = dict(matplotlib.rcParams)
    assert draw(tmp_path / "picture.png", *arguments) is None
    assert dict(matplotlib.rcParams) == before
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.format == "PNG"
        assert 400 < picture.width < 2500 and 150 < picture.height < 2500
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 2


@pytest.mark.parametrize("draw", [plots.design, plots.pair])
def test_same_numbers_same_bytes_whatever_the_users_style(draw, tmp_path):
    _, *arguments = CASES[draw.__name__]
    draw(tmp_path / "a.png", *arguments)
    with matplotlib.rc_context({"lines.linewidth": 9, "figure.facecolor": "red"}):
        draw(tmp_path / "b.png", *arguments)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("slope", [0.0, 50.0])
def test_regions_hold_what_they_say(slope):
    x, noise = np.random.default_rng(1).normal(size=(2, 100_000))
    grid_x, grid_y, density, levels = smooth_2d(x, slope * x + noise)
    for level, share in zip(levels, (0.9, 0.5), strict=True):
        inside = density >= level  # exact: the share of a normal inside the ellipse of the same area
        cell = abs(np.linalg.det([[g[1, 0] - g[0, 0], g[0, 1] - g[0, 0]] for g in (grid_x, grid_y)]))
        assert 1 - np.exp(-inside.sum() * cell / (2 * np.pi)) == pytest.approx(share, abs=0.02)


def test_regions_end_at_the_edges_of_flat_priors_though_draws_are_a_little_correlated():
    x, y = np.random.default_rng(1).uniform(-1.0, 1.0, size=(2, 20_000))
    y = np.where(np.random.default_rng(2).uniform(size=x.size) < 0.3, np.abs(y) * np.sign(x), y)
    assert 0.1 < np.corrcoef(x, y)[0, 1] < 0.4
    grid_x, grid_y, _, _ = smooth_2d(x, y)
    for grid in (grid_x, grid_y):
        assert grid.min() == pytest.approx(-1.0, abs=0.02) and grid.max() == pytest.approx(1.0, abs=0.02)


def test_density_that_stops_sharply_is_not_drawn_to_fade_out():
    x, density = smooth(np.random.default_rng(1).uniform(size=20_000), log=False)
    assert np.trapezoid(density, x) == pytest.approx(1, abs=0.02)
    assert density.min() > 0.9


@pytest.mark.parametrize(("label", "width", "lines"), [
    ("predator_scale", 1.0, ["predator_", "scale"]),
    ("predator_0", 1.0, ["predator_0"]),
    ("predator_0_scale [1/year]", 1.0, ["predator_0_", "scale", "[1/year]"]),
    ("first arrival time", 1.0, ["first arrival", "time"]),
    ("electrodeposition", 1.0, ["electrodeposi", "tion"]),  # too long by itself
])  # fmt: skip
def test_label_is_broken_where_its_name_has_joints(label, width, lines):
    assert broken(label, width).splitlines() == lines


@pytest.mark.parametrize(
    ("low", "middle", "high", "log", "words"),
    [
        (0.501, 0.5487, 0.596, False, "0.549 (0.501, 0.596)"),
        (-1.64, -0.003, 1.66, False, "0.0 (−1.6, 1.7)"),
        (0.045, 0.304, 1.67, False, "0.30 (0.04, 1.67)"),  # a scale's lower end is not 0
        (0.0001, 0.001, 50.0, False, "0.00 (0.00, 50.00)"),
        (12340.0, 45670.0, 78900.0, False, "46000 (12000, 79000)"),
        (2.872e7, 3.009e7, 3.157e7, False, r"3.01 (2.87, 3.16) $\times10^{7}$"),
        (2.81e-6, 1.07e-3, 0.368, True, "0.00107 (2.81e−06, 0.368)"),
        (3.0, 3.0, 3.0, False, "3.000 (3.000, 3.000)"),
    ],
)
def test_interval_is_written_with_the_digits_it_deserves(low, middle, high, log, words):
    assert _interval(low, middle, high, log) == words


@pytest.mark.parametrize(
    ("value", "threshold", "larger", "share"),
    [
        (0.2, 0.4, False, 0.5),
        (800, 400, True, 0.5),
        (0, 400, True, np.inf),
        (np.nan, 1, False, np.inf),
        (-1, 1, False, 0),
    ],
)
def test_longer_bars_are_worse(value, threshold, larger, share):
    assert _share(value, threshold, larger) == share


@pytest.mark.parametrize(("asked", "scale"), [((), "linear"), (["rate"], "log"), (["other"], "linear")])
def test_an_axis_is_logarithmic_where_that_is_asked_for_alone(asked, scale):
    with plots.looking(plots.Look(log=asked)):
        plots.pair(held := plots.Held(), {"rate[0]": np.exp(3 * NORMAL), "b": NORMAL})
    assert [ax.get_xscale() for ax in held.figure.axes] == [scale, scale, "linear"]


def test_a_few_runs_that_run_away_do_not_hide_the_data():
    runs = np.vstack([NORMAL[:, :25], 1e6 * NORMAL[:1, :25]])
    one = plots.Runs("y", "kg", "time", "s", TIMES, np.repeat(runs, 6, axis=0)[:25], TIMES, NORMAL[0, :25])
    plots.prior_runs(held := plots.Held(), [one], "from the prior")
    (ax,) = held.figure.axes
    assert max(map(abs, ax.get_ylim())) < 10 and "1 of 25 runs go beyond" in [text.get_text() for text in ax.texts]


def test_a_verdict_s_bars_begin_at_nothing():
    plots.verdict(held := plots.Held(), [figure(0.25), figure(50.0, passed=False)])
    (ax,) = held.figure.axes
    assert ax.get_xlim() == (0.0, 3.0) and [bar.get_width() for bar in ax.patches] == [0.5, 3.0]


def test_quantiles_of_many_values_are_taken_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(50, 23))
    values[3, 5], values[:, 7] = np.inf, np.nan
    whole = figures.quantiles_of(values, [0.1, 0.9])
    monkeypatch.setattr(figures, "_SORTED", 200)
    assert np.array_equal(figures.quantiles_of(values, [0.1, 0.9]), whole, equal_nan=True)
    assert np.isnan(whole[:, 7]).all() and np.isfinite(np.delete(whole, 7, axis=1)).all()


@pytest.mark.parametrize("case", ["design of eight", "trace", "held out", "losses, negative", "verdict", "influences"])
def test_panels_lie_where_constrained_layout_has_them(case):
    draw, *arguments = CASES[case]
    shown = []
    for lays_out in (lambda figure: figure.get_layout_engine().execute(figure), lambda figure: lay_out(figure, 150)):
        draw(held := plots.Held(), *arguments)
        with figures.styled(plots.Look()):
            held.figure.set_dpi(150)
            lays_out(held.figure)
            held.figure.canvas.draw()
            axes = [axis for ax in held.figure.axes for axis in (ax.xaxis, ax.yaxis) if axis.get_visible()]
            lie = [ax.get_window_extent().extents for ax in held.figure.axes]
            lie += [axis.label.get_window_extent().extents for axis in axes if axis.get_label_text()]
            shown.append((np.stack(lie), [in_view(axis) for axis in axes]))
    np.testing.assert_allclose(shown[0][0], shown[1][0], atol=3.0)
    assert shown[0][1] == shown[1][1]


def in_view(axis):
    """Return the words along an axis that are seen."""
    low, high = sorted(axis.get_view_interval())
    at = 0 if axis is axis.axes.xaxis else 1
    shown = [text for text in axis.get_ticklabels() if text.get_visible()]
    return [text.get_text() for text in shown if low <= text.get_position()[at] <= high]


@pytest.mark.parametrize("case", ["design", "trace", "pair", "verdict"])
def test_a_page_takes_the_figure_that_was_written_and_shows_the_same_as_of_one_made_anew(case, tmp_path):
    draw, *arguments = CASES[case]
    anew = svg.inline(0, "", lambda place: draw(place, *arguments))
    draw(tmp_path / "a.png", *arguments)
    again = Again()
    with plots.looking(plots.Look(title=False)):
        draw(again, *arguments)
    assert again.figure.margins is not None  # it was laid out when it was written
    draw(tmp_path / "b.png", *arguments)
    assert svg.inline(0, "", lambda place: draw(place, *arguments)) == anew
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_figure_of_other_numbers_or_axes_is_not_taken_nor_one_twice(tmp_path):
    draws = {"a": NORMAL, "b": np.exp(3 * NORMAL)}
    for shown, look in (({"a": NORMAL, "b": NORMAL}, ()), (draws, ("b",))):
        plots.pair(tmp_path / "pair.png", draws)
        with plots.looking(plots.Look(log=look)):
            plots.pair(again := Again(), shown)
        assert again.figure.margins is None
    plots.pair(tmp_path / "pair.png", draws)
    first, second = Again(), Again()
    for again in (first, second):
        plots.pair(again, draws)
    assert first.figure.margins is not None and second.figure.margins is None
