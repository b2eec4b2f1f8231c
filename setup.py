# SPDX-License-Identifier: Apache-2.0
"""Builds the natives: the cffi module, the sampler executable and the NVML stand-in.

setuptools knows extension modules only. The two other natives are declared as extensions too, so that sdists, editable
installs and rebuilds treat them alike, and `NativeBuild` links them as what they are.
"""

import os
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).parent
CORE = ["csrc/core/*.c", "csrc/sources/*.c"]
HEADERS = [
    str(path.relative_to(HERE)) for suffix in ("h", "map") for path in sorted((HERE / "csrc").rglob(f"*.{suffix}"))
]
# -ffp-contract=off: the physics must round alike in every library it is linked into. -fno-plt: a jump less a call.
CFLAGS = ["-std=c11", "-O2", "-fvisibility=hidden", "-ffp-contract=off", "-fno-plt", "-D_GNU_SOURCE", "-pthread"]
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Wstrict-prototypes"]


def sources(*patterns: str) -> list[str]:
    return [str(path.relative_to(HERE)) for pattern in patterns for path in sorted(HERE.glob(pattern))]


class Program(Extension):
    """An executable; lands in the package with its own file name."""


class PlainLibrary(Extension):
    """A shared library that is no Python module and must keep its name."""


class NativeBuild(build_ext):
    def get_ext_filename(self, fullname: str) -> str:
        native = self.ext_map.get(fullname) if hasattr(self, "ext_map") else None
        native = native or next((e for e in self.extensions if e.name == fullname), None)
        if isinstance(native, Program | PlainLibrary):
            *package, _ = fullname.split(".")
            return os.path.join(*package, native.file_name)
        return super().get_ext_filename(fullname)

    def build_extension(self, ext: Extension) -> None:
        if not isinstance(ext, Program | PlainLibrary):
            ext.extra_compile_args = [*CFLAGS, *ext.extra_compile_args]
            super().build_extension(ext)
            return
        target = self.get_ext_fullpath(ext.name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        objects = self.compiler.compile(
            ext.sources,
            # An own folder each: the natives compile the same files with different flags.
            output_dir=os.path.join(self.build_temp, ext.name),
            include_dirs=ext.include_dirs,
            extra_postargs=ext.extra_compile_args,
            depends=ext.depends,
        )
        # Bare cc for linking: the interpreter's own link line may carry an rpath into its prefix.
        linker = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()
        shared = ["-shared"] if isinstance(ext, PlainLibrary) else []
        self.spawn([*linker, *shared, "-o", target, *objects, *ext.extra_link_args])

    def copy_extensions_to_source(self) -> None:
        for ext in self.extensions:  # setuptools makes no folders here
            Path(self.get_finalized_command("build_py").get_package_dir("powersample")).joinpath(
                *ext.name.split(".")[1:-1]
            ).mkdir(parents=True, exist_ok=True)
        super().copy_extensions_to_source()


def native(kind: type[Extension], name: str, file_name: str, files: list[str], link: list[str]) -> Extension:
    ext = kind(
        name,
        files,
        include_dirs=["csrc/include", "csrc"],
        depends=HEADERS,
        extra_compile_args=[*CFLAGS, *WARNINGS, *([] if kind is Program else ["-fPIC"])],
        extra_link_args=["-pthread", *link],
    )
    ext.file_name = file_name
    return ext


natives = [
    native(
        Program,
        "powersample._bin.sampler",
        "powersample-sampler",
        sources(*CORE, "csrc/load/*.c", "csrc/sampler/*.c"),
        ["-ldl", "-lm"],
    ),
    native(
        PlainLibrary,
        "powersample._lib.nvmlsim",
        "libnvidia-ml.so.1",
        # Bound to itself: with the real library in the process, our own calls must not land there.
        # No soname: a program that has the stand-in loaded by path must still find the real library by name.
        sources("csrc/physics/*.c", "csrc/node/node_file.c", "csrc/nvmlsim/*.c"),
        ["-Wl,-Bsymbolic", "-lm"],
    ),
]

# What a program finds on a driver of long ago: the same library, with only the names of that time exported.
natives.append(
    native(
        PlainLibrary,
        "powersample._lib.nvmlsim_r361",
        "libnvidia-ml-r361.so.1",
        sources("csrc/physics/*.c", "csrc/node/node_file.c", "csrc/nvmlsim/*.c"),
        ["-Wl,-Bsymbolic", f"-Wl,--version-script={HERE / 'csrc/nvmlsim/r361.map'}", "-lm"],
    )
)

limited_api = not sysconfig.get_config_var("Py_GIL_DISABLED")
setup(
    cffi_modules=["powersample/_native/build_native.py:ffi"],
    ext_modules=natives,
    cmdclass={"build_ext": NativeBuild},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if limited_api else {},
)
