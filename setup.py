"""Packaging of acme_hieros; `make setup` installs the exact lock instead."""

import importlib.metadata
import pathlib
import runpy
import sys

import setuptools
from setuptools.command import build_ext

INSTALL_REQUIRES = [
  # The last release of Acme. Its users' most frequent complaint is that it no
  # longer installs, so everything below that has only one version that fits is
  # pinned to it.
  'dm-acme==0.4.0',
  # The one that dm-acme 0.4.0 itself requires. Its wheels end at Python 3.10
  # (see PYTHON_REQUIRES) and its compiled parts belong to TensorFlow 2.8.
  'dm-launchpad==0.5.0',
  # The release that belongs to TensorFlow 2.8, as Launchpad does.
  'dm-reverb==0.7.3',
  # For Reverb's datasets and Acme's savers only; never for learning, so the
  # CPU build will do on every machine.
  'tensorflow-cpu==2.8.4',
  # The one for TensorFlow 2.8; Acme's and distrax's distributions.
  'tensorflow-probability==0.16.0',
  # TensorFlow 2.8's generated code does not load with protobuf 3.20 or later.
  'protobuf==3.19.6',
  # Acme's checkpointer imports it.
  'dm-sonnet==2.0.2',
  # TensorFlow 2.8 is compiled against numpy 1.
  'numpy==1.26.4',
  # JAX's last release for Python 3.10; jaxlib must be its twin.
  'jax==0.6.2',
  'jaxlib==0.6.2',
  # The newest that go with that JAX. Without the rlax and distrax pins a
  # resolver goes back to ancient releases of both.
  'dm-haiku==0.0.17',
  'optax==0.2.8',
  'rlax==0.1.7',
  'distrax==0.1.5',
  'chex==0.1.90',
  # Environments. ale-py has the Atari ROMs inside its wheel, so its version
  # decides what is played.
  'dm-env==1.6',
  'dm-tree==0.1.10',
  'gymnasium==1.4.0',
  'ale-py==0.12.1',
  # Pictures of what an agent believes.
  'matplotlib',
  'pillow',
  # 82 removed pkg_resources, which the `tensorboard` command of TensorFlow 2.8
  # imports.
  'setuptools<82',
  # JAX keeps no more than so many bytes of what it compiles only with it.
  'filelock',
  # Nothing above restricts these.
  'absl-py',
  'cloudpickle',
  'psutil',
  # Python 3.10 has no tomllib.
  'tomli',
  'tqdm',
]

REPORT = [
  # The release that was checked against statistics computed without it: it is
  # what the figures of a report rest on.
  'rliable==1.2.0',
  'jinja2',
  # acme_hieros.read_runs; rliable requires it, too.
  'pandas',
]

MINATAR = [
  # The last release; the games are inside, so its version decides what is
  # played. Not for all: it is under the GPL, and requires pandas and seaborn.
  'MinAtar==1.0.15',
]

# As with MinAtar, a version decides what is played. All of these fit together
# and into the lock.
BSUITE = ['bsuite==0.3.6']
DMC = ['dm_control==1.0.50', 'mujoco==3.17.0', 'labmaze==1.0.6']
MINIGRID = ['minigrid==3.1.0']
POPGYM = ['popgym==1.0.7']

VIDEO = ['imageio-ffmpeg>=0.6,<1']

# Nodes that are threads of one process need runs beside each other, which older
# ones do not have.
WANDB = ['wandb>=0.25,<1']

EXTRAS_REQUIRE = {
  # The environments `<extra>/<name>`.
  'bsuite': BSUITE,
  'crafter': ['crafter==1.8.3'],
  # make docs.
  'docs': ['pdoc>=15,<17'],
  'dmc': DMC,
  'memory_maze': [
    *DMC,
    'memory-maze==1.0.3',
    # It imports it and does not say so.
    'gym==0.26.2',
  ],
  'minatar': MINATAR,
  'minigrid': MINIGRID,
  'popgym': POPGYM,
  # hieros sweep --ray, hieros train --launch=ray; the release that was tried
  # beside protobuf 3.19.
  'ray': ['ray==2.48.0'],
  # hieros report, and acme_hieros.read_runs.
  'report': REPORT,
  # hieros evaluate --video.
  'video': VIDEO,
  # hieros train --track=wandb.
  'wandb': WANDB,
  # Selenium opens a report in a browser.
  'test': [
    *BSUITE,
    *DMC,
    *MINATAR,
    *MINIGRID,
    *POPGYM,
    *REPORT,
    *VIDEO,
    *WANDB,
    'hypothesis',
    'mypy',
    'pytest',
    'pytest-timeout',
    'pytest-xdist',
    'ruff',
    'selenium',
  ],
  # Must be the very version pinned above.
  'cuda12': ['jax[cuda12]==0.6.2'],
}

# dm-launchpad has no wheels beyond 3.10, and that JAX none before it. The
# modules that need neither (models, config) run from a source checkout on any
# newer Python.
PYTHON_REQUIRES = '==3.10.*'

# Under another Python, pip is to name the Python and not the first dependency
# that has no wheel for it.
INSTALL_REQUIRES = [
  requirement + ' ; python_version == "3.10"'
  for requirement in INSTALL_REQUIRES
]


def native_extensions() -> list[setuptools.Extension]:
  """The ETBS sampler; without it the Python stand-in serves."""
  try:
    files = importlib.metadata.files('pybind11') or []
  except importlib.metadata.PackageNotFoundError:
    files = []
  # Its own get_include() takes 3.10 for 3.1.
  headers = [f for f in files if f.match('pybind11/pybind11.h')]
  if not headers:
    print(
      'warning: without the headers of pybind11==2.4.3 the native ETBS sampler '
      'is not built; its Python stand-in will serve.',
      file=sys.stderr,
    )
    return []
  native = 'acme_hieros/replay/native'
  return [
    setuptools.Extension(
      'acme_hieros.replay._native',
      [f'{native}/module.cc'],
      include_dirs=[str(headers[0].locate().parent.parent.resolve())],
      depends=[
        f'{native}/{name}.h'
        for name in ('reverb_interfaces', 'sampler', 'time_order')
      ],
      language='c++',
      extra_compile_args=[
        '-std=c++17',
        '-O2',
        '-g0',
        '-fvisibility=hidden',
        # pybind11 2.4.3 calls functions that Python 3.10 calls old.
        '-Wno-deprecated-declarations',
        # As dm-reverb 0.7.3 was built: pybind11's types are shared between
        # modules of the same C++ ABI only.
        '-fabi-version=11',
        '-D_GLIBCXX_USE_CXX11_ABI=0',
      ],
      # Without a compiler the installation goes on.
      optional=True,
    )
  ]


class BuildExt(build_ext.build_ext):
  """Never packs the library of an older state."""

  def build_extension(self, ext):
    pathlib.Path(self.get_ext_fullpath(ext.name)).unlink(missing_ok=True)
    super().build_extension(ext)


setuptools.setup(
  name='acme_hieros',
  version=runpy.run_path('acme_hieros/version.py')['VERSION'],
  description='Hieros, hierarchical imagination on S5 world models, for Acme.',
  long_description=pathlib.Path('README.md').read_text(encoding='utf-8'),
  long_description_content_type='text/markdown',
  author='the acme_hieros authors',
  license='Apache-2.0',
  license_files=['LICENSE'],
  keywords='reinforcement learning, world models, hierarchy, Acme, JAX',
  python_requires=PYTHON_REQUIRES,
  install_requires=INSTALL_REQUIRES,
  extras_require=EXTRAS_REQUIRE,
  # Namespace discovery: a subpackage without an __init__.py is still found.
  packages=setuptools.find_namespace_packages(
    include=['acme_hieros', 'acme_hieros.*'],
    exclude=['*.__pycache__', '*.__pycache__.*', '*.native'],
  ),
  package_data={
    # That there are types.
    'acme_hieros': ['py.typed'],
    # The page of a report.
    'acme_hieros.reports': ['*.html'],
  },
  entry_points={'console_scripts': ['hieros = acme_hieros.commands:main']},
  ext_modules=native_extensions(),
  cmdclass={'build_ext': BuildExt},
  classifiers=[
    'Development Status :: 4 - Beta',
    'Intended Audience :: Science/Research',
    'Programming Language :: Python :: 3.10',
    'Programming Language :: C++',
    'Operating System :: POSIX :: Linux',
    'Topic :: Scientific/Engineering :: Artificial Intelligence',
    'Typing :: Typed',
  ],
)
