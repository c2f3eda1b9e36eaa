"""Tensors: every dtype, shape and layout comes back bit by bit, or is refused by name."""

import warnings

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from mlc_core import CheckpointManager, CorruptCheckpointError, StateError, TensorBytes, open_checkpoint  # noqa: E402
from mlc_core.serializers import Safetensors  # noqa: E402
from mlc_core.state import frameworks  # noqa: E402
from mlc_core.state.tree import decode  # noqa: E402

DTYPES = {name: getattr(torch, dtype) for name, dtype in frameworks.TORCH_DTYPES.items() if hasattr(torch, dtype)}


class Subclass(torch.Tensor):
    """A tensor that may mean something else than its elements."""


def there_and_back(place, value):
    """Save *value* and load it."""
    manager = CheckpointManager(place, "unet")
    manager.save_checkpoint(items={"data": value}, epoch=1)
    return manager.load_checkpoint("latest").state["data"]


def bits(tensor):
    """Return the bytes of *tensor*."""
    own = torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach())
    return own.reshape(-1).view(torch.uint8).tolist()


def random_tensor(dtype, *shape):
    """Return a tensor of any bits of *dtype*."""
    count = torch.Size(shape).numel() * dtype.itemsize
    raw = torch.randint(0, 2 if dtype is torch.bool else 256, (count,), dtype=torch.uint8)
    return raw.view(dtype).reshape(shape)


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_and_layout_comes_back(place, name):
    """No axis, none of one, several; not contiguous, expanded, transposed, backwards: every bit."""
    full = random_tensor(DTYPES[name], 4, 6)
    values = {
        "full": full,
        "scalar": full[1, 2],
        "empty": full[:0],
        "no columns": full[:, :0],
        "column": full[:, 3],
        "every other": full[::2, 1::3],
        "transposed": full.t(),
        "expanded": full[:1].expand(3, 6),
        "permuted": full.reshape(2, 2, 6).permute(2, 0, 1),
    }
    found = there_and_back(place, values)

    for key, value in values.items():
        assert (value.dtype, value.shape) == (found[key].dtype, found[key].shape)
        assert bits(value) == bits(found[key])


def test_views_that_compute_are_saved_as_what_they_show(place):
    """A conjugate and a negative view share their memory with what they are views of, and are not the same."""
    value = torch.tensor([1 + 2j, 3 - 4j], dtype=torch.complex64)
    values = {"plain": value, "conjugate": value.conj(), "imaginary": value.imag, "negative": value.conj().imag}
    found = there_and_back(place, values)

    for name, expected in values.items():
        assert torch.equal(expected.resolve_conj().resolve_neg(), found[name])


def test_values_of_torch_come_back(place, same):
    """Dtypes, devices and sizes, as optimizers and schedulers hold them."""
    values = {"dtype": torch.bfloat16, "device": torch.device("cuda", 1), "size": torch.Size([2, 0])}

    assert same(values, there_and_back(place, values))


def test_parameters_and_gradients(place):
    """A parameter is saved as its values; what needs a gradient comes back as a plain tensor."""
    parameter = torch.nn.Parameter(torch.randn(3))
    found = there_and_back(place, [parameter, (parameter * 2)])

    assert torch.equal(parameter, found[0])
    assert [False, False] == [one.requires_grad for one in found]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.eye(3).to_sparse(), "is torch.sparse_coo, which safetensors cannot hold; save a dense copy"),
        (lambda: torch.eye(3).to_sparse_csr(), "is torch.sparse_csr"),
        (lambda: torch.eye(3).to_mkldnn(), "is torch._mkldnn"),
        (
            lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
            r"is quantized, .*save its int_repr\(\)",
        ),
        (
            lambda: torch.quantize_per_channel(torch.ones(2, 1), torch.ones(2), torch.zeros(2), 0, torch.quint8),
            "is quantized",
        ),
        (lambda: torch.ones(2, device="meta"), r"is without data \(meta\), .*model\.to_empty\(device=…\)"),
        (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), r"is nested, .*save a list .*unbind\(\)"),
        (
            lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
            r"is a torch\.nested\..*NestedTensor; save the plain tensor",
        ),
        (
            lambda: torch.ones(2, dtype=torch.complex128),
            r"has dtype torch\.complex128, which safetensors cannot hold; save torch\.view_as_real\(it\), of float64",
        ),
        (
            lambda: torch.ones(2).to(torch.complex32),
            r"has dtype torch\.complex32, .*torch\.view_as_real\(it\), of float16",
        ),
        (
            lambda: torch.ones(2, dtype=torch.uint8).view(torch.bits8),
            r"has dtype torch\.bits8, .* save it\.view\(torch\.uint8\)",
        ),
        (
            lambda: torch.nn.parameter.UninitializedBuffer(),
            "is a torch.nn.parameter.UninitializedBuffer; run the model",
        ),
        (lambda: torch.ones(2).as_subclass(Subclass), r"is a .*Subclass; save the plain tensor that it stands for"),
        (lambda: torch.nn.Parameter(torch.ones(2).as_subclass(Subclass)), r"is a .*Subclass; save the plain tensor"),
        (
            lambda: torch.nn.parameter.UninitializedParameter(),
            "is a torch.nn.parameter.UninitializedParameter; run the model once",
        ),
        (lambda: torch.Generator(), "is a torch.*Generator, which a checkpoint cannot hold"),
    ],
)
def test_what_has_no_exact_form_is_refused_by_name(place, make, message):
    """The place, what it is, and the way out."""
    with pytest.raises(StateError, match=rf"^data\.layers\.0\.weight {message}"):
        there_and_back(place, {"layers": [{"weight": make()}]})


def test_distributed_tensor_is_refused_by_name(place):
    """It is a part of something; the way out gives the whole."""
    distributed = pytest.importorskip("torch.distributed")
    from torch.distributed.tensor import DTensor, Replicate, init_device_mesh

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        whole = DTensor.from_local(torch.arange(4.0), init_device_mesh("cpu", (1,)), [Replicate()])
        with pytest.raises(
            StateError, match=r"data\.w is a torch.*DTensor; it is one shard of several: save its full_t"
        ):
            there_and_back(place, {"w": whole})
        assert torch.equal(torch.arange(4.0), there_and_back(place, {"w": whole.full_tensor()})["w"])
    finally:
        distributed.destroy_process_group()


@pytest.mark.skipif(not hasattr(torch, "float4_e2m1fn_x2"), reason="needs torch 2.8")
def test_two_in_a_byte_are_refused_with_their_way_out(place):
    """The bits of what the message says to save are those of the tensor."""
    packed = torch.arange(8, dtype=torch.uint8).view(2, 4).view(torch.float4_e2m1fn_x2)
    with pytest.raises(StateError, match=r"data has dtype torch\.float4_e2m1fn_x2, .*save it\.view\(torch\.uint8\)"):
        there_and_back(place, packed)
    found = there_and_back(place, packed.view(torch.uint8)).view(torch.float4_e2m1fn_x2)

    assert torch.equal(packed.view(torch.uint8), found.view(torch.uint8))


@pytest.mark.parametrize("dtype", [torch.complex128, torch.complex32])
def test_way_out_of_complex_numbers_loses_nothing(place, dtype):
    """As the message says."""
    value = torch.tensor([1.5 - 2j, 0.25j]).to(dtype)

    assert torch.equal(torch.view_as_real(value), there_and_back(place, torch.view_as_real(value)))


def test_buffer_and_frozen_parameter_come_back(place):
    """What modules call a buffer is a plain tensor; what does not train is saved all the same."""
    module = torch.nn.Module()
    module.register_buffer("mean", torch.nn.Buffer(torch.randn(3)) if hasattr(torch.nn, "Buffer") else torch.randn(3))
    module.frozen = torch.nn.Parameter(torch.randn(3), requires_grad=False)
    found = there_and_back(place, module)

    assert torch.equal(module.mean, found["mean"])
    assert torch.equal(module.frozen, found["frozen"])


@st.composite
def views(draw):
    """Draw a view of a larger storage: of any dtype, sliced, permuted, expanded, shifted."""
    dtype = DTYPES[draw(st.sampled_from(sorted(DTYPES)))]
    shape = tuple(draw(st.lists(st.integers(0, 4), min_size=1, max_size=3)))
    tensor = random_tensor(dtype, *shape)
    for axis in range(tensor.dim()):
        start, step = draw(st.integers(0, 2)), draw(st.integers(1, 3))
        tensor = tensor[(slice(None),) * axis + (slice(start, None, step),)]
    tensor = tensor.permute(draw(st.permutations(range(tensor.dim()))))
    if draw(st.booleans()):
        tensor = tensor.unsqueeze(0).expand(draw(st.integers(0, 3)), *tensor.shape)
    return tensor.conj() if draw(st.booleans()) and tensor.is_complex() else tensor


@pytest.mark.parametrize("name", [name for name, dtype in DTYPES.items() if dtype.itemsize > 1])
def test_single_element_of_a_step_comes_back(place, name):
    """Torch calls it contiguous whatever its stride is, and will not look at its bytes."""
    values = random_tensor(DTYPES[name], 2, 3)
    found = there_and_back(place, [values[::2, ::3], values[0, ::3], values.t()[::3]])

    assert [bits(values[:1, :1]), bits(values[:1, 0]), bits(values[:, 0])] == [bits(one) for one in found]


@given(st.lists(views(), min_size=1, max_size=4))
def test_any_view_comes_back(tmp_path_factory, tensors):
    """Shape, dtype and every bit of what it shows, and nothing of what lies around it."""
    place = tmp_path_factory.mktemp("views")
    found = there_and_back(place, tensors)
    library = pytest.importorskip("safetensors.torch")
    file = library.load_file(place / "unet" / "epoch_1" / "data.safetensors")

    for position, tensor in enumerate(tensors):
        assert (tensor.dtype, tensor.shape) == (found[position].dtype, found[position].shape)
        assert bits(tensor) == bits(found[position]) == bits(file[str(position)])


def test_tied_tensors_are_saved_once(tmp_path):
    """And come back under every name; equal ones that are not tied are saved twice."""
    weight = torch.randn(100, 100)
    manager = CheckpointManager(tmp_path, "unet")
    path = manager.save_checkpoint(
        items={"data": {"a": weight, "b": weight, "c": [weight], "d": weight.clone()}}, epoch=1
    )
    found = manager.load_checkpoint().state["data"]

    assert ["a", "d"] == list(open_checkpoint(path).tensors("data"))
    assert all(torch.equal(weight, one) for one in (found["a"], found["b"], found["c"][0], found["d"]))


def test_views_of_one_storage_are_not_confused(place):
    """Same memory, other shape, stride or dtype: each is what it was."""
    base = torch.arange(12.0)
    values = {
        "all": base,
        "half": base[:6],
        "square": base.view(3, 4),
        "skip": base[::2],
        "bits": base.view(torch.int32),
    }
    found = there_and_back(place, values)

    assert all(torch.equal(value, found[name]) for name, value in values.items())


@pytest.mark.parametrize("name", ["__metadata__", "", "a.b", "ü", "a#2", "$tensor", "x" * 300])
def test_names_of_tensors(place, name):
    """Whatever a tensor is called, also as safetensors calls its own part, and when two have one name."""
    values = {name: torch.ones(2), "a": {"b": torch.zeros(1)}, "a.b": torch.full((3,), 3.0)}
    found = there_and_back(place, values)

    assert list(values) == list(found)
    assert torch.equal(values[name], found[name])
    assert torch.equal(values["a"]["b"], found["a"]["b"])


def test_the_library_reads_our_files(tmp_path):
    """Every dtype that it knows, bit by bit, without a warning."""
    library = pytest.importorskip("safetensors.torch")
    state = {f"layer.{name}": random_tensor(dtype, 3, 5) for name, dtype in DTYPES.items()}
    state |= {"scalar": torch.tensor(4.0), "empty": torch.ones(0, 3)}
    path = CheckpointManager(tmp_path, "unet").save_checkpoint(state, epoch=1)
    found = library.load_file(path / "model.safetensors")

    assert set(state) == set(found)
    for name, value in state.items():
        assert (value.dtype, value.shape, bits(value)) == (found[name].dtype, found[name].shape, bits(found[name]))


def test_we_read_the_librarys_files(tmp_path):
    """Every dtype that it writes, with metadata and its own order."""
    library = pytest.importorskip("safetensors.torch")
    state = {f"layer.{name}": random_tensor(dtype, 3, 5) for name, dtype in DTYPES.items()}
    state |= {"scalar": torch.tensor(4.0), "empty": torch.ones(0, 3)}
    library.save_file(state, tmp_path / "theirs.safetensors", metadata={"format": "pt", "note": "hello"})
    found = Safetensors().load(memoryview(bytearray((tmp_path / "theirs.safetensors").read_bytes())))

    assert set(state) == set(found)
    for name, value in state.items():
        back = decode({"$tensor": name}, found, copy=True)
        assert (value.dtype, value.shape, bits(value)) == (back.dtype, back.shape, bits(back))


@given(st.lists(st.floats(width=32), max_size=6), st.integers(0, 5))
def test_both_agree_on_any_file(data, position):
    """What the library writes and we read, and the other way round."""
    library = pytest.importorskip("safetensors.torch")
    tensor = torch.tensor(data)[position:]
    raw = frameworks.tensor_to_bytes(tensor)
    ours = b"".join(bytes(piece) for piece in Safetensors().dump({"t": raw})[1])

    assert bits(library.load(ours)["t"]) == bits(tensor)
    assert bytes(Safetensors().load(memoryview(library.save({"t": tensor})))["t"].data) == bytes(raw.data)


def test_mapped_tensors_outlive_their_file(tmp_path):
    """Without a copy they share the file's pages, may be written to, and stay when retention removes it."""
    weight = torch.randn(300, 300)
    path = CheckpointManager(tmp_path, "unet").save_checkpoint({"w": weight}, epoch=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second = (open_checkpoint(path).load(copy=False)["model"]["w"] for _ in range(2))
    first[0] = 0
    CheckpointManager(tmp_path, "unet").storage.remove("epoch_1")

    assert torch.equal(weight, second)
    assert torch.equal(weight[1:], first[1:])
    assert 0 == first[0].abs().sum()


def test_loaded_tensors_are_ones_own(place):
    """Nobody else has their memory."""
    manager = CheckpointManager(place, "unet")
    manager.save_checkpoint({"w": torch.ones(3)}, epoch=1)
    manager.load_checkpoint().state["model"]["w"].zero_()

    assert 3 == manager.load_checkpoint().state["model"]["w"].sum()


@pytest.mark.parametrize(
    ("tree", "tensors"),
    [
        ({"$tensor": "w"}, {"w": TensorBytes("F32", (0, 2**62, 2**62), b"")}),
        ({"$tensor": "w"}, {"w": TensorBytes("F32", (3,), bytearray(b"1234"))}),
        ({"$array": "w"}, {"w": TensorBytes("BF16", (1,), b"12")}),
        ({"$array": "w"}, {"w": TensorBytes("F32", (0, 2**62, 2**62), b"")}),
        ({"$dtype": "nn"}, {}),
        ({"$dtype": "no_such"}, {}),
        ({"$dtype": 7}, {}),
        ({"$device": "toaster"}, {}),
        ({"$size": ["a"]}, {}),
    ],
    ids=repr,
)
def test_hostile_references_are_corrupt(tree, tensors):
    """Shapes that overflow, data that is too short, names that are no dtype."""
    with pytest.raises(CorruptCheckpointError, match=r"the state holds \$"):
        decode(tree, tensors, copy=True)


def test_metrics_may_be_tensors_and_numpy_numbers(place):
    """Of one element; what has more is no number."""
    manager = CheckpointManager(place, "unet")
    metrics = {"a": torch.tensor(0.5), "b": torch.tensor([2]), "c": np.float32(0.25), "d": np.int64(3), "e": True}
    manager.save_checkpoint(items={"x": 1}, epoch=np.int64(3), step=torch.tensor(7), metrics=metrics)
    (saved,) = manager.list_checkpoints()

    assert {"a": 0.5, "b": 2.0, "c": 0.25, "d": 3.0, "e": 1.0} == dict(saved.metrics)
    assert (3, 7) == (saved.epoch, saved.step)
    assert {"python", "mlc-core", "torch", "numpy"} == set(saved.versions)
    with pytest.raises(ValueError, match=r"metric 'a' is 'tensor\(\[1., 1.\]\)', which is no number"):
        manager.save_checkpoint(items={"x": 1}, metrics={"a": torch.ones(2)})
