# Every target does its own set-up; a second call finds it done.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/installed
export OMP_WAIT_POLICY = passive

.PHONY: demo play test slow check fuzz faults bench bench-gpu results comparisons closed-loop hands loops format clean

demo: $(STAMP)
	$(BIN)/worldenv demo --out out/demo

play: $(STAMP)
	$(BIN)/worldenv play --world maze

test: $(STAMP)
	$(BIN)/python -m pytest -q -n 2

# What takes minutes and is left out of the suite: every stage on two processes, kills at every point.
slow: $(STAMP)
	$(BIN)/python -m pytest -q -m slow

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -n 2

# Changed inputs of every kind, each with what must become of it: make fuzz MINUTES=30.
MINUTES ?= 10
fuzz: $(STAMP)
	$(BIN)/python -W ignore -m tests.fuzz --minutes $(MINUTES) --out docs/results/fuzz.json; \
	  status=$$?; $(BIN)/python docs/tables; exit $$status

bench: $(STAMP)
	$(BIN)/worldenv bench engine --out out/bench-engine.json

# Kills at random moments, full disks, dead workers, two runs in one folder; an hour of two cores. With root rights disks
# are small ones in memory, else the sizes of files are limited.
KILLS ?= 50
faults: $(STAMP)
	$(BIN)/python -m tests.faults --kills $(KILLS) --out docs/results/faults.json
	$(BIN)/python docs/tables

# All that is to be measured on a GPU, and checks there: kernels in the interpreter, recorded chunks with compiled ones,
# candidates before they are timed. For an environment with a CUDA build of torch: make bench-gpu GPU_PYTHON=python.
GPU_PYTHON ?= $(BIN)/python
GPU_ENVS ?= 1 16 64 256 512
GPU_COUNTS ?= $(shell $(GPU_PYTHON) -c "import torch; print(*(n for n in (1, 2, 4, 8) if n <= torch.cuda.device_count()))")
bench-gpu:
	$(GPU_PYTHON) -m pytest -q tests/kernels tests/engine
	TRITON_INTERPRET=0 $(GPU_PYTHON) -m pytest -q tests/engine/test_capture.py -k gpu
	$(GPU_PYTHON) -m worldenv_kernels.bench --out kernels/results
	$(GPU_PYTHON) -m worldenv.cli bench backends --envs $(GPU_ENVS) --out docs/results/gpu-backends.json
	for decode in decode no-decode; do for capture in capture no-capture; do \
	  $(GPU_PYTHON) -m worldenv.cli bench engine --envs $(GPU_ENVS) --$$decode --$$capture \
	    --out docs/results/gpu-engine-$$decode-$$capture.json || exit 1; \
	done; done
	for count in $(GPU_COUNTS); do for size in "704 1280" "480 832"; do \
	  $(GPU_PYTHON) -m torch.distributed.run --standalone --nproc-per-node=$$count -m worldenv.cli bench worldplay \
	    --size $$size --out docs/results/gpu-worldplay-$${size%% *}-$$count.json || exit 1; \
	done; done
	$(GPU_PYTHON) -m worldenv.cli bench scale --out docs/results/gpu-scale.json
	$(GPU_PYTHON) -m worldenv.cli bench training --envs 4 --steps 8 --out docs/results/gpu-training.json
	$(GPU_PYTHON) docs/tables

# What is known of the kernels without a GPU: what they compile to, and the least that they can take.
KERNELS := kernels/worldenv_kernels
docs/results/kernels-aot.csv: $(STAMP) $(wildcard $(KERNELS)/*.py $(KERNELS)/*/*.py)
	$(BIN)/python -m worldenv_kernels.aot --out $@
docs/results/kernels-roofline.csv: $(STAMP) $(KERNELS)/roofline.py $(KERNELS)/workloads.py $(KERNELS)/pages.py
	$(BIN)/python -m worldenv_kernels.roofline --out $@

# Of the hand's table, for policies that do not look.
BLIND := --obs-mode dict --obs-keys goal --pictures False --episodes 100 --num-envs 10 --first-seed 500000
# What README says of the packaged world alone; takes about an hour on two cores. The rest: make comparisons.
results: $(STAMP)
	for suite in revisit short_term drift memory action reconstruction geometry; do \
	  $(BIN)/worldenv eval $$suite --out out/results/$$suite || exit 1; \
	  cp out/results/$$suite/report.json docs/results/$$suite.json; \
	done
	for suite in rendering depth; do \
	  $(BIN)/worldenv eval $$suite --worlds 32 --first-seed 958000 --out out/results/$$suite || exit 1; \
	  cp out/results/$$suite/report.json docs/results/$$suite.json; \
	done
	$(BIN)/worldenv eval walls --worlds 48 --out out/results/walls
	cp out/results/walls/report.json docs/results/walls.json
	$(BIN)/worldenv-agents eval random straight seek_goal --env worldenv/Navigate-v1 --episodes 16 --twin --out docs/results/scores-navigate-v1.json
	$(BIN)/worldenv-agents eval random wander chase "follow:right-16, w-48" --env worldenv/ObjectNav-v0 --episodes 16 --twin --out docs/results/scores-object_nav.json
	$(BIN)/worldenv-agents eval random wander --env worldenv/ImageNav-v0 --episodes 16 --twin --out docs/results/scores-image_nav.json
	$(BIN)/worldenv-agents eval random wander "follow:right-32" --env worldenv/Explore-v0 --episodes 16 --twin --out docs/results/scores-explore.json
	$(BIN)/worldenv-agents eval random seek_goal --env worldenv/Navigate-v0 --episodes 16 --twin --out docs/results/scores-navigate.json
	$(BIN)/worldenv-agents eval retrace random out_and_back "follow:right-16, w-12, s-16, right-20, w-12, s-16, right-20, w-12, s-16, right-20" --env worldenv/RevisitSim-v1 --episodes 32 --out docs/results/scores-revisit-v1.json
	$(BIN)/worldenv-agents eval random out_and_back --env worldenv/Revisit-v0 --episodes 16 --twin --out docs/results/scores-revisit.json
	$(BIN)/worldenv-agents eval expert noisy:0.2 noisy:0.3 noisy:0.4 noisy:0.5 noisy:0.6 noisy:0.8 noisy:1 random \
	  --env worldenv/HandPlaceSim-v0 $(BLIND) --out docs/results/scores-hand_place.json
	$(BIN)/worldenv-agents eval expert random --env worldenv/HandLiftSim-v0 $(BLIND) --out docs/results/scores-hand_lift.json
	$(BIN)/worldenv-agents eval expert random --env worldenv/HandPushSim-v0 $(BLIND) --out docs/results/scores-hand_push.json
	$(BIN)/worldenv bench rendering --out docs/results/bench-rendering.json
	$(BIN)/worldenv bench engine --out docs/results/bench-engine.json
	$(BIN)/worldenv bench backends --out docs/results/bench-backends.json
	$(BIN)/worldenv bench serve --out docs/results/bench-serve.json
	$(BIN)/worldenv bench play --out docs/results/bench-play.json
	$(BIN)/worldenv bench soak --out docs/results/soak.json
	$(BIN)/worldenv bench scale --steps 10 --out docs/results/bench-scale.json
	$(BIN)/worldenv bench collectors --envs 4 --steps 8 --out docs/results/bench-collectors.json
	$(BIN)/worldenv bench training --envs 4 --steps 8 --out docs/results/bench-training.json
	$(BIN)/worldenv bench memory --chunks 10000 --steps 300 --out docs/results/bench-memory.json
	$(BIN)/worldenv demo --worlds 24 --out out/results/demo
	cp out/results/demo/report.json docs/results/demo.json
	$(BIN)/python -c "import imageio.v3 as i; i.imwrite('docs/contact.jpg', i.imread('out/results/demo/contact.png')[::2, ::2], quality=90)"
	$(BIN)/python -c "import imageio.v3 as i; i.imwrite('docs/tour.jpg', i.imread('out/results/demo/tour.png')[..., :3], quality=80)"
	cp out/results/memory/means.png docs/memory.png
	$(BIN)/python docs/tables

# Acting in the simulator by plans that the world imagines, and what the world foretells of policies; goes on where it was
# interrupted. About three quarters of an hour of one core.
closed-loop: $(STAMP)
	$(BIN)/worldenv-agents plan --env worldenv/Navigate-v1 --action-mode keys --lookahead 4 --execute 2 --rollouts 1 4 12 \
	  --max-episode-steps 24 --episodes 16 --num-envs 4 --first-seed 100 --out out/results/planning
	cp out/results/planning/report.json docs/results/planning.json
	cp out/results/planning/planning.png docs/planning.png
	$(BIN)/worldenv-agents rank --env worldenv/Navigate-v1 --episodes 8 --num-envs 8 --first-seed 100 --horizons 2 4 8 16 \
	  --out out/results/ranking
	cp out/results/ranking/report.json docs/results/ranking.json
	$(BIN)/python docs/tables

# The packaged world of hands: scored on tables that it was not trained on, and how it ranks policies; an hour of two cores.
hands: $(STAMP)
	for task in place lift push; do \
	  $(BIN)/worldenv record --config configs/hand/heldout_$$task.toml --out runs/hand/heldout/$$task || exit 1; \
	  $(BIN)/worldenv eval manipulation --world hand --recording runs/hand/heldout/$$task --worlds 48 \
	    --out out/results/manipulation-$$task || exit 1; \
	  cp out/results/manipulation-$$task/report.json docs/results/manipulation-$$task.json; \
	done
	$(BIN)/python -c "from PIL import Image; sheet = Image.open('out/results/manipulation-place/manipulation.png'); \
	  sheet.resize((sheet.width // 2, sheet.height // 2), Image.BOX).save('docs/hand-world.jpg', quality=85)"
	$(BIN)/worldenv-agents rank --env worldenv/HandPlace-v0 --episodes 48 --num-envs 16 --first-seed 700000 \
	  --horizons 3 6 9 --out out/results/ranking-hand
	cp out/results/ranking-hand/report.json docs/results/ranking-hand.json
	$(BIN)/worldenv bench engine --world hand --out docs/results/bench-hand-world.json
	$(BIN)/python docs/tables

# Policies trained in a world with one memory and another, and in its simulator (configs/loops, which says what it costs: for a
# GPU, on two cores it takes a week); first how true each memory is. Goes on where it was interrupted.
LOOPS := revisit_transfer revisit_control
CUT := recent=maze,memory.policy=recent none=maze,memory.policy=none
loops: $(STAMP)
	$(GPU_PYTHON) -m worldenv.cli eval ablations --arms worldplay=maze,memory.policy=worldplay $(CUT) --worlds 32 \
	  --first-seed 958000 --out out/loops/fidelity
	for table in $(LOOPS); do \
	  $(GPU_PYTHON) -m worldenv_agents.cli loop configs/loops/$$table.toml --out out/loops/$$table || exit 1; \
	  cp out/loops/$$table/report.json docs/results/loop-$$table.json; \
	done
	$(GPU_PYTHON) docs/tables

# What README says of it beside the worlds that it came from (runs/ of configs/maze/train.sh), and of small worlds, which
# are trained first (configs/ablations; a day or two on two cores). Everything goes on where it was interrupted.
ARMS := eval ablations --arms
BEFORE := parent_16_steps=runs/memory_more,sampler.num_steps=16
TABLES := table3 table4 table6 table7 figure8 memory
comparisons: $(STAMP)
	$(BIN)/worldenv $(ARMS) distilled=maze parent=runs/memory_more $(BEFORE) --out out/results/distilled
	$(BIN)/worldenv $(ARMS) distilled=maze parent=runs/memory_more $(BEFORE) --suite drift --out out/results/distilled-drift
	$(BIN)/worldenv $(ARMS) teacher=runs/teacher $(BEFORE) parent=runs/memory_more --given 8 --worlds 32 --out out/results/teacher
	$(BIN)/worldenv $(ARMS) packaged=maze hold=runs/rolling reset=runs/rolling,sampler.lookahead_policy=reset --worlds 32 \
	  --out out/results/rolling
	for name in distilled distilled-drift teacher rolling; do cp out/results/$$name/report.json docs/results/$$name.json; done
	$(BIN)/worldenv bench rolling --world runs/rolling --envs 4 --teacher-steps 16 --out docs/results/bench-rolling.json
	for table in $(TABLES); do \
	  $(BIN)/worldenv eval ablations --table configs/ablations/$$table.toml --out out/ablations/$$table || exit 1; \
	  cp out/ablations/$$table/report.json docs/results/ablation-$$table.json; \
	done
	$(BIN)/python docs/tables

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# torch first and pinned: a bare requirement would take a build with several gigabytes of CUDA libraries.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e ".[sims,manip,agents,data,play,tensorboard,worldplay,kernels,ray,dev]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) out
