"""Every notebook runs on a T4: cell by cell, trainings cut to two steps, on tensors that obey CUDA's rules.

What is measured means nothing then, so claims are not asserted; all else must run.
"""

import nbformat
import pytest
from conftest import ROOT
from nbformat.v4 import new_code_cell, new_notebook

CHAPTERS = sorted((ROOT / "notebooks").glob("0*.ipynb"))
MASTERS = sorted((ROOT / "notebooks" / "exercises").glob("*.ipynb"))
NAMES = sorted({path.stem for path in CHAPTERS + MASTERS})

BREAKS_A_RULE = {
    "torch.ones(2, device='cuda') + torch.ones(2)": "same device",
    "torch.ones(2)[torch.zeros(1, dtype=torch.long, device='cuda')]": "same device",
    "torch.randn(2, device='cuda', generator=torch.Generator())": "generator",
    "torch.randn(2, generator=torch.Generator('cuda'))": "generator",
    "torch.ones(1, 2, device='cuda').multinomial(1, generator=torch.Generator())": "generator",
    "torch.ones(2, device='cuda').numpy()": "numpy",
    "torch.nn.Linear(2, 2).to('cuda')(torch.ones(2))": "same device",
    "torch.ones(2, 2, device='cuda').bfloat16() @ torch.ones(2, 2, device='cuda').bfloat16()": "bfloat16",
    "torch.ones(2, 2, device='cuda').half() @ torch.ones(2, 2, device='cuda')": "dtype",
}
KEEPS_THEM = """
x = torch.full((2, 2), 300.0, device="cuda").half()
assert (x @ x).isinf().all() and not (x + x).isinf().any()
assert (torch.full((2,), 2049.0, device="cuda").half() == 2048).all()
a = torch.randn(3, device="cuda", generator=torch.Generator("cuda").manual_seed(1))
b = torch.randn(3, device="cuda", generator=torch.Generator("cuda").manual_seed(1))
assert a.device.type == "cuda" and a.tolist() == b.tolist()
assert (torch.ones(2, device="cuda") * torch.tensor(2.0)).cpu().numpy().sum() == 4
model = torch.nn.Linear(2, 1).to("cuda")
with torch.autocast("cuda", torch.float16):
    y = model(torch.ones(3, 2, device="cuda"))
y.float().sum().backward()
assert y.dtype == torch.float16 and model.weight.grad.tolist() == [[3.0, 3.0]]
"""


def test_what_cuda_refuses_fails(on_fake_gpu, tmp_path):
    cells = [new_code_cell("import torch"), *map(new_code_cell, BREAKS_A_RULE), new_code_cell(KEEPS_THEM)]
    nbformat.write(new_notebook(cells=cells), tmp_path / "rules.ipynb")
    [ran] = on_fake_gpu("run_notebooks.py", tmp_path / "rules.ipynb")
    failed = {each["cell"]: each["error"] for each in ran["failures"]}
    assert list(failed) == list(range(1, len(BREAKS_A_RULE) + 1)), failed
    for error, why in zip(failed.values(), BREAKS_A_RULE.values(), strict=True):
        assert why in error


@pytest.mark.parametrize("name", NAMES)
def test_a_chapter_and_its_exercises_run_on_a_t4(on_fake_gpu, name):
    paths = [path for path in CHAPTERS + MASTERS if path.stem == name]
    ran = on_fake_gpu("run_notebooks.py", *paths)
    assert len(ran) == len(paths) and all(each["launches"] for each in ran[:1])
    assert [each["failures"] for each in ran] == [[] for _ in paths]


def test_there_are_chapters_and_masters():
    assert CHAPTERS and [path.stem for path in CHAPTERS] == [path.stem for path in MASTERS]
