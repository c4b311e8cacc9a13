"""How to cite what a run stands on: Simfer, the libraries that carry it, and the methods that its config names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simfer.stages.settings import Problem

if TYPE_CHECKING:
    from simfer.stages.report.material import Material

# By key: what it is cited for, and its entry.
_ENTRIES = {
    "jax": ("arrays and gradients", "software", {
        "author": "Bradbury, James and Frostig, Roy and Hawkins, Peter and Johnson, Matthew James and Leary, Chris and "
        "Maclaurin, Dougal and Necula, George and Paszke, Adam and VanderPlas, Jake and Wanderman-Milne, Skye and "
        "Zhang, Qiao",
        "title": "{JAX}: composable transformations of {Python}+{NumPy} programs", "year": "2018",
        "url": "http://github.com/jax-ml/jax"}),
    "equinox": ("simulators and networks", "article", {
        "author": "Kidger, Patrick and Garcia, Cristian",
        "title": "{Equinox}: neural networks in {JAX} via callable {PyTrees} and filtered transformations",
        "journal": "Differentiable Programming workshop at Neural Information Processing Systems", "year": "2021"}),
    "diffrax": ("differential equations", "phdthesis", {
        "author": "Kidger, Patrick", "title": "On Neural Differential Equations", "school": "University of Oxford",
        "year": "2021"}),
    "numpyro": ("distributions and NUTS", "article", {
        "author": "Phan, Du and Pradhan, Neeraj and Jankowiak, Martin",
        "title": "Composable Effects for Flexible and Accelerated Probabilistic Programming in {NumPyro}",
        "journal": "arXiv preprint arXiv:1912.11554", "year": "2019"}),
    "arviz": ("diagnostics", "article", {
        "author": "Kumar, Ravin and Carroll, Colin and Hartikainen, Ari and Martin, Osvaldo",
        "title": "{ArviZ} a unified library for exploratory analysis of {Bayesian} models in {Python}",
        "journal": "Journal of Open Source Software", "volume": "4", "number": "33", "pages": "1143", "year": "2019",
        "doi": "10.21105/joss.01143"}),
    "nuts": ("the sampler", "article", {
        "author": "Hoffman, Matthew D. and Gelman, Andrew",
        "title": "The {No-U-Turn} Sampler: adaptively setting path lengths in {Hamiltonian Monte Carlo}",
        "journal": "Journal of Machine Learning Research", "volume": "15", "pages": "1593--1623", "year": "2014"}),
    "rhat": ("R-hat and ESS", "article", {
        "author": "Vehtari, Aki and Gelman, Andrew and Simpson, Daniel and Carpenter, Bob and B{\\\"u}rkner, "
        "Paul-Christian",
        "title": "Rank-normalization, folding, and localization: an improved $\\widehat{R}$ for assessing "
        "convergence of {MCMC}",
        "journal": "Bayesian Analysis", "volume": "16", "number": "2", "pages": "667--718", "year": "2021",
        "doi": "10.1214/20-BA1221"}),
    "psis": ("importance weights of the check", "article", {
        "author": "Vehtari, Aki and Simpson, Daniel and Gelman, Andrew and Yao, Yuling and Gabry, Jonah",
        "title": "Pareto Smoothed Importance Sampling", "journal": "Journal of Machine Learning Research",
        "volume": "25", "number": "72", "pages": "1--58", "year": "2024"}),
    "smc": ("the tempered population", "article", {
        "author": "Del Moral, Pierre and Doucet, Arnaud and Jasra, Ajay", "title": "Sequential {Monte Carlo} samplers",
        "journal": "Journal of the Royal Statistical Society: Series B", "volume": "68", "number": "3",
        "pages": "411--436", "year": "2006", "doi": "10.1111/j.1467-9868.2006.00553.x"}),
    "cosmopower": ("the network", "article", {
        "author": "Spurio Mancini, Alessio and Piras, Davide and Alsing, Justin and Joachimi, Benjamin and Hobson, "
        "Michael P.",
        "title": "{CosmoPower}: emulating cosmological power spectra for accelerated {Bayesian} inference",
        "journal": "Monthly Notices of the Royal Astronomical Society", "volume": "511", "pages": "1771--1788",
        "year": "2022", "doi": "10.1093/mnras/stac064"}),
    "deeponet": ("the network", "article", {
        "author": "Lu, Lu and Jin, Pengzhan and Pang, Guofei and Zhang, Zhongqiang and Karniadakis, George Em",
        "title": "Learning nonlinear operators via {DeepONet} based on the universal approximation theorem of "
        "operators",
        "journal": "Nature Machine Intelligence", "volume": "3", "pages": "218--229", "year": "2021",
        "doi": "10.1038/s42256-021-00302-5"}),
    "fourier": ("the network", "inproceedings", {
        "author": "Tancik, Matthew and Srinivasan, Pratul P. and Mildenhall, Ben and Fridovich-Keil, Sara and "
        "Raghavan, Nithin and Singhal, Utkarsh and Ramamoorthi, Ravi and Barron, Jonathan T. and Ng, Ren",
        "title": "{Fourier} features let networks learn high frequency functions in low dimensional domains",
        "booktitle": "Advances in Neural Information Processing Systems", "volume": "33", "year": "2020"}),
    "polynomial": ("the emulator", "article", {
        "author": "Blatman, G{\\'e}raud and Sudret, Bruno",
        "title": "Adaptive sparse polynomial chaos expansion based on least angle regression",
        "journal": "Journal of Computational Physics", "volume": "230", "pages": "2345--2367", "year": "2011",
        "doi": "10.1016/j.jcp.2010.12.021"}),
    "gaussian_process": ("the emulator", "book", {
        "author": "Rasmussen, Carl Edward and Williams, Christopher K. I.",
        "title": "Gaussian Processes for Machine Learning", "publisher": "MIT Press", "year": "2006"}),
}  # fmt: skip
_ALWAYS = "jax", "equinox", "numpyro", "arviz", "rhat", "psis"


def keys(problem: Problem | None) -> list[str]:
    """List the works that a run of a problem stands on; of no problem, the libraries alone."""
    if problem is None:
        return ["jax", "equinox", "diffrax", "numpyro", "arviz"]
    sampler = {"nuts": ["nuts"], "smc": ["smc"]}.get(problem.infer.sampler, ["nuts", "smc"])
    network = [problem.train.architecture] if problem.train.architecture in _ENTRIES else []
    return [*_ALWAYS[:2], "diffrax", *_ALWAYS[2:], *sampler, *network]


def own(version: str) -> str:
    """Return Simfer's own entry."""
    fields = {
        "author": "{The Simfer authors}",
        "title": "{Simfer}: from simulations to inference",
        "version": version,
    }
    return _entry("simfer", "software", fields)


def bibtex(problem: Problem | None, version: str) -> str:
    """Return a references.bib of what a run of a problem stands on, each entry with what it is cited for."""
    parts = [own(version)]
    for key in keys(problem):
        purpose, kind, fields = _ENTRIES[key]
        parts.append(f"% {purpose}\n{_entry(key, kind, fields)}")
    return "\n\n".join(parts) + "\n"


def methods(problem: Problem, version: str) -> str:
    """Return a sentence for the methods section, with keys of the references."""
    cited = ", ".join(keys(problem))
    return f"We inferred the parameters with Simfer {version} \\cite{{simfer}}, which stands on \\cite{{{cited}}}."


def sentence(material: Material) -> str:
    """Return a sentence for the methods section of a paper, with the numbers of a run."""
    count = sum(step.facts.get("rows", 0) for step in material.steps if step.stage == "simulate")
    count += sum(step.facts.get("simulations", 0) for step in material.steps if step.stage == "check")
    said = f"For the methods: “We inferred the parameters with Simfer {material.simfer} from {count:,} simulations"
    if "check" not in material.latest:
        return f"{said}.”"
    if material.latest["check"].facts.get("passed", False) is None:
        return f"{said}, finished before. There was no simulator to check the posterior against.”"
    figures = {row["figure"]: row["value"] for row in material.latest["check"].table("verdict")}
    found = [value for name, value in figures.items() if name.startswith("emulator error") and value is not None]
    error = ""
    if found:  # one for each output: the worst is what a reader should know
        error = f": the emulator's error is at most {max(found):.3g} of the data's standard deviation (99th percentile)"
    return f"{said}. Posterior draws were run through the simulator again{error}.”"


def _entry(key: str, kind: str, fields: dict[str, str]) -> str:
    inner = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
    return f"@{kind}{{{key},\n{inner}\n}}"
