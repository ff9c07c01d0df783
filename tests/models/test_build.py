import ml_collections
import pytest

from jaxreloc.models import build
from jaxreloc.usage import UsageError


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"backbone": "vgg16"}, "unknown backbone 'vgg16'; known: efficientnet_lite0, resnet1"),
        ({"head": "sum"}, "unknown head 'sum'; known: concat, correlation"),
        ({"dtype": "int8"}, "unknown dtype 'int8'; known: bfloat16, float32"),
        ({"bakbone": "resnet18"}, "unknown field of config.model 'bakbone'; known: backbone, "),
    ],
)
def test_mistakes_list_what_is_known(config, message):
    with pytest.raises(UsageError) as error:
        build.build_network(ml_collections.ConfigDict(config))
    assert str(error.value).startswith(message)


def test_defaults_are_the_papers():
    config = build.NetworkConfig.parse({})
    assert (config.backbone, config.head, config.pretrained) == ("resnet34", "concat", None)
