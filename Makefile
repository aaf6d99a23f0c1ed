# Two commands do everything on a bare machine: `make demo` and `make test`. Both make .venv once.
#   make demo RVIZ=1                   with RViz beside it, where that is installed
#   make demo RECORDING=PATH OPTIONS="--color-intrinsics FX FY CX CY"   a recording of your own
#   make test TESTS=test/mapping       lint, types, and some of the tests
#   make build COLCON_ARGS=...         both packages with colcon, for a machine that has ROS 2
#   make bench                         every benchmark; writes benchmarks/results.md
# PYTHON=python3.12 makes .venv with another Python than python3 (3.10 to 3.12), in any of them.

PYTHON ?= python3
VENV := $(CURDIR)/.venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
# Traffic stays on this machine, torch on one thread: two busy threads on two busy cores are slower than one.
export ROS_AUTOMATIC_DISCOVERY_RANGE := LOCALHOST
export MUJOCO_GL ?= egl
# Shared memory that holds whole images: see the file.
export FASTRTPS_DEFAULT_PROFILES_FILE ?= $(CURDIR)/config/fastdds.xml
# What a sourced ROS puts there must not reach into the virtual environment; `make build` needs it.
ifneq ($(MAKECMDGOALS),build)
unexport PYTHONPATH AMENT_PREFIX_PATH
endif

.PHONY: setup demo test lint types bench build clean

setup: $(STAMPS)/vlm_nodes $(STAMPS)/rendering

$(STAMPS)/python: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
		|| { echo 'vlm_nodes needs Python 3.10 to 3.12; name one with make PYTHON=python3.12'; exit 1; }
	@command -v c++ >/dev/null || { echo 'a C++ compiler is needed: apt-get install g++'; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
		|| { echo 'the venv module is needed: apt-get install python3-venv'; exit 1; }
	@$(PYTHON) -c 'import pathlib, sysconfig; (pathlib.Path(sysconfig.get_path("include")) / "Python.h").stat()' 2>/dev/null \
		|| { echo "Python's headers are needed: apt-get install $$($(PYTHON) -c 'import sys; print("python%d.%d-dev" % sys.version_info[:2])')"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check torch==2.13.0
	$(BIN)/pip install -q --disable-pip-version-check --no-deps -r requirements.txt
	@mkdir -p $(STAMPS) && touch $@

# The interface packages are built into the virtual environment, which the ROS wheels make an ament prefix.
INTERFACES := $(shell find vlm_interfaces standalone/tf2_msgs -type f) standalone/wheels.cmake
$(STAMPS)/interfaces: $(STAMPS)/python $(INTERFACES)
	AMENT_PREFIX_PATH=$(VENV) CMAKE_PREFIX_PATH=$(VENV) PATH=$(BIN):$$PATH \
	$(BIN)/colcon --log-base $(VENV)/colcon/log build --merge-install \
		--build-base $(VENV)/colcon/build --install-base $(VENV) \
		--base-paths vlm_interfaces standalone/tf2_msgs \
		--cmake-args -DPython3_EXECUTABLE=$(BIN)/python -DPython3_FIND_VIRTUALENV=ONLY \
		-DCMAKE_PROJECT_INCLUDE=$(CURDIR)/standalone/wheels.cmake -DBUILD_TESTING=OFF
	@touch $@

$(STAMPS)/vlm_nodes: $(STAMPS)/interfaces setup.py setup.cfg standalone/install.py
	$(BIN)/python standalone/install.py
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(STAMPS)/rendering: $(STAMPS)/python
	@$(BIN)/python standalone/rendering.py
	@touch $@

test: setup lint types
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(TESTS)

lint: $(STAMPS)/python
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMPS)/vlm_nodes
	$(BIN)/mypy

demo: setup
	$(BIN)/python -m vlm_nodes.demo.demo $(if $(RECORDING),--recording "$(RECORDING)") $(if $(RVIZ),--rviz) $(OPTIONS)

bench: setup
	$(BIN)/python benchmarks/run_all.py

# For a machine with ROS 2: colcon does not look inside a package for another, so both are named.
build:
	colcon build --base-paths . vlm_interfaces --packages-select vlm_interfaces vlm_nodes $(COLCON_ARGS)

clean:
	rm -rf $(VENV) build install log
