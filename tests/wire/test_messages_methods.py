"""The table of methods is what the protocol files say."""

from __future__ import annotations

import re
from typing import Any

from flovyn.wire import methods
from flovyn.wire.transport import Method, Shape
from wire.reference import files, our_class

SHAPES = {(False, False): Shape.UNARY, (False, True): Shape.SERVER_STREAM, (True, False): Shape.CLIENT_STREAM}


def declared() -> dict[str, Method[Any, Any]]:
    """Every RPC of the protocol files, under the name that its constant should have."""
    return {
        re.sub(r"(?<=[a-z])([A-Z])", r"_\1", rpc.name).upper(): Method(
            f"/{file.package}.{service.name}/{rpc.name}",
            our_class(rpc.input_type.removeprefix(".")),
            our_class(rpc.output_type.removeprefix(".")),
            SHAPES[rpc.client_streaming, rpc.server_streaming],
        )
        for file in files().file
        for service in file.service
        for rpc in service.method
    }


def test_every_rpc_is_there_with_its_path_types_and_shape() -> None:
    table: dict[str, object] = {name: value for name, value in vars(methods).items() if type(value) is Method}
    assert table == declared()
    assert len(table) == 51


def test_all_of_them_are_exported() -> None:
    assert set(methods.__all__) == {*declared(), "Empty"}


def test_both_files_set_the_options_that_other_languages_need() -> None:
    own = [file for file in files().file if file.package == "flovyn.v1"]
    assert [file.name for file in own] == ["flovyn.proto", "agent.proto"]
    for file in own:
        assert (file.options.java_package, file.options.java_multiple_files) == ("ai.flovyn.protocol", True)
