"""The typed recipe: every key a recipe may have, its meaning, its default and its bounds.

Types only: importing this file imports neither torch nor any engine. Reading files, inheritance, overrides and the
checks that need the tables of games, players and presets are in `marft.recipe`.
"""

from __future__ import annotations

from math import inf
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from marft.blocks import Algorithm


class Strict(BaseModel):
    """Base of all recipe sections: unknown keys are errors, values are read-only."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Tiny(Strict):
    """Shape and warm-up of `model: tiny`, the small Qwen3 model built on the spot."""

    layers: int = Field(2, ge=1, le=32)
    hidden: int = Field(64, ge=16, description="width; a multiple of 2 * heads")
    heads: int = Field(4, ge=1)
    kv_heads: int = Field(4, ge=1)
    intermediate: int = Field(192, ge=16)
    vocabulary: int = Field(512, ge=300, description="tokens, 256 bytes and the control tokens included")
    context: int = Field(2048, ge=64, description="longest sequence in tokens")
    seed: int = Field(0, ge=0)
    warmup_episodes: int = Field(512, ge=8, description="scripted episodes to learn the game's format from")
    players: dict[str, float] = Field(
        default_factory=dict, description="weights of the scripted players who are drawn for them; default: all alike"
    )
    warmup_steps: int = Field(300, ge=0)
    warmup_batch: int = Field(64, ge=1, description="rows per warm-up step")
    warmup_learning_rate: float = Field(3e-3, gt=0)

    @model_validator(mode="after")
    def _divides(self) -> Tiny:
        if self.hidden % (2 * self.heads):
            raise ValueError(f"hidden {self.hidden} must be a multiple of 2 * heads = {2 * self.heads}")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} must be a multiple of kv_heads {self.kv_heads}")
        if self.players and not (min(self.players.values()) >= 0 and 0 < sum(self.players.values()) < inf):
            raise ValueError(f"players must have weights of 0 or more, not all 0, got {self.players}")
        return self


class Model(Strict):
    """The shared base. A bare string is its name: `tiny`, a local folder, or a hub name."""

    name: str = "tiny"
    revision: str | None = Field(None, description="hub revision; ignored for tiny and folders")
    dtype: Literal["float32", "bfloat16", "float16", "float64"] = "float32"
    device: str = Field("auto", description="auto: the accelerator if there is one, else cpu")
    tiny: Tiny = Tiny()

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, data: Any) -> Any:
        return {"name": data} if isinstance(data, str) else data


class Adapter(Strict):
    """LoRA settings of one agent, PEFT's words."""

    rank: int = Field(8, ge=1)
    alpha: float = Field(16, gt=0)
    targets: tuple[str, ...] | Literal["all-linear"] = Field("all-linear", description="module names or all-linear")


class Optimizer(Strict):
    """AdamW settings of one agent."""

    learning_rate: float = Field(1e-5, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0, description="the agent's gradient is clipped to this norm")
    warmup_updates: int = Field(0, ge=0, description="linear rise of the learning rate over the first updates")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "constant", description="how the learning rate falls, to zero after train.updates"
    )


class Agent(Strict):
    """One learner; sections left out fall back to the recipe's `adapter` and `optimizer`."""

    adapter: Adapter | None = None
    optimizer: Optimizer | None = None
    start_from: str | None = Field(None, description="a PEFT adapter folder to start from")


class Policy(Strict):
    """Who plays. A bare string names an agent."""

    agent: str | None = None
    scripted: str | None = Field(None, description="a player of the game, or path.py:function")
    frozen: str | None = Field(None, description="a PEFT adapter folder, or `base` for the bare model")
    past: str | None = Field(None, description="an earlier version of this agent, see `past`")
    remote: str | None = Field(None, description="a chat endpoint, see `remotes`")
    weight: float = Field(1.0, gt=0, description="chance to be drawn, relative to the others of a pool")

    @model_validator(mode="before")
    @classmethod
    def _bare_agent(cls, data: Any) -> Any:
        return {"agent": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _one_of(self) -> Policy:
        kinds = [kind for kind in KINDS if getattr(self, kind, None)]
        if len(kinds) != 1:
            raise ValueError(f"name exactly one of {', '.join(k for k in KINDS if k in type(self).model_fields)}")
        return self

    def __str__(self) -> str:
        """The policy as episodes record it: "alice", "scripted:TFT", "frozen:path", "remote:judge"."""
        if self.agent is not None:
            return self.agent
        if self.remote is not None:
            return f"remote:{self.remote}"
        return f"scripted:{self.scripted}" if self.scripted is not None else f"frozen:{self.frozen}"

    @property
    def by_model(self) -> bool:
        """Whether the run's own base answers: an adapter on it, or the bare base."""
        return self.scripted is None and self.remote is None


KINDS = ("agent", "scripted", "frozen", "past", "remote", "pool")


class Seat(Policy):
    """Who fills a seat: one policy, or a pool of which one is drawn for each group of episodes."""

    pool: tuple[Policy, ...] = Field((), description="policies with weights")
    role: str | None = Field(None, description="functional group, for baselines by role; default: the seat's name")

    @property
    def choices(self) -> tuple[Policy, ...]:
        return self.pool or (self,)

    @property
    def own(self) -> Policy:
        """Who is evaluated in this seat: the first agent that may sit here, as it is now, else the first policy."""
        agents = [policy.agent or policy.past for policy in self.choices if policy.agent or policy.past]
        return Policy(agent=agents[0]) if agents else self.choices[0]


class Past(Strict):
    """Which earlier versions of an agent may sit in a seat whose policy is `past`: every k-th, the newest ones."""

    every: int = Field(10, ge=1, description="versions between two that are kept")
    keep: int = Field(5, ge=1, description="how many of them may be drawn")

    def versions(self, version: int) -> list[int]:
        """Those of an agent that has come to `version`, oldest first; the untrained one is the first of all."""
        return list(range(0, version + 1, self.every))[-self.keep :]


class Remote(Strict):
    """An OpenAI-compatible chat endpoint that may sit in a seat, `team: {bob: {remote: NAME}}`. It is never trained.

    The key is read from the environment and stands nowhere else. Tokens are counted as the endpoint reports them.
    """

    url: str = Field(min_length=1, description="address up to the version, https://host/v1")
    model: str = Field(min_length=1, description="the endpoint's name of the model")
    key_env: str | None = Field(None, description="environment variable that holds the key; none: no key is sent")
    max_tokens: int = Field(64, ge=1, description="longest answer")
    temperature: float = Field(1.0, ge=0)
    fields: dict[str, Any] = Field(
        default_factory=dict, description="further fields of a request's body; null takes one out"
    )
    spend_limit: int = Field(100_000, ge=1, description="tokens, prompts included, after which the run stops")
    timeout: float = Field(60.0, gt=0, description="seconds one attempt may take")
    retries: int = Field(4, ge=0, description="further attempts after an error of the connection or server")
    concurrency: int = Field(16, ge=1, description="requests at once")


class Game(BaseModel):
    """A game by name, or path.py:Class; all other keys are the game's own options. A bare string is its name."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, data: Any) -> Any:
        return {"name": data} if isinstance(data, str) else data

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Reward(Strict):
    """One reward term: a function of marft.rewards, or path.py:function; terms are weighted and summed."""

    use: str
    name: str | None = Field(None, description="what the term is called; default: the function's name")
    weight: float = 1.0
    options: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the function")

    @model_validator(mode="before")
    @classmethod
    def _bare_use(cls, data: Any) -> Any:
        return {"use": data} if isinstance(data, str) else data


class Sampling(Strict):
    """How an engine samples. Log-probs are those of the distribution after temperature, top-k and top-p."""

    temperature: float = Field(1.0, gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0, description="0: no limit")
    max_new_tokens: int = Field(64, ge=1)


class Branching(Strict):
    """How a rollout branches. A node is a decision of all seats that act at once; its samples start from one state.

    `flat`: no branches. `tree`: `samples` joint answers at each decision (MAGRPO). `two_level`: `samples` at the first
    decision and `second` for each of them at the second (AdvGame). `per_state`: as tree, going on from the best
    (AT-GRPO). advance: from which samples play goes on. pairing: the g-th answers of all seats together, or `cross`,
    every combination of them. depth: decisions that branch; later ones are sampled once.
    """

    kind: Literal["flat", "tree", "two_level", "per_state"] = "flat"
    samples: int = Field(4, ge=2, le=256)
    second: int = Field(4, ge=1, le=256)
    advance: Literal["all", "best", "random"] = "all"
    pairing: Literal["aligned", "cross"] = "aligned"
    depth: int | None = Field(None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _bare_kind(cls, data: Any) -> Any:
        return {"kind": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _best_of_a_state(self) -> Branching:
        if self.kind == "per_state" and self.advance == "random":
            raise ValueError("per_state goes on from the best: set advance best, or kind tree")
        return self

    @property
    def branches(self) -> bool:
        return self.kind != "flat"

    @property
    def goes_on(self) -> str:
        return "best" if self.kind == "per_state" else self.advance

    def samples_at(self, decision: int) -> int:
        """Joint answers drawn at decision number `decision` of an episode, from 0."""
        if self.kind == "flat" or (self.depth is not None and decision >= self.depth):
            return 1
        if self.kind == "two_level":
            return (self.samples, self.second)[decision] if decision < 2 else 1
        return self.samples


class Rollout(Strict):
    """How many episodes an update plays, and when."""

    groups: int = Field(8, ge=1, description="instances per update")
    group_size: int = Field(8, ge=1, description="episodes (or trees) per instance")
    plan: Branching = Branching()
    swap_seats: bool = Field(False, description="rotate the team by one seat from group to group")
    attempts: int = Field(3, ge=1, description="plays of one episode before its failure stops the run")
    deadline: float = Field(3600.0, gt=0, description="seconds one update's rollout may take")
    max_staleness: int = Field(
        0, ge=0, le=64, description="versions that what is trained on may lie behind; above 0, play goes on meanwhile"
    )
    pipeline: bool = Field(False, description="gradients of whole groups while others still play, one step at the end")


class Critic(Strict):
    """The value head, an adapter of its own on the shared base, where the algorithm asks for one."""

    adapter: Adapter | None = Field(None, description="default: the recipe's adapter")
    optimizer: Optimizer = Optimizer(learning_rate=1e-3)
    epochs: int = Field(2, ge=1, description="passes over an update's decisions")
    minibatches: int = Field(2, ge=1, description="optimizer steps per pass")
    warmup_updates: int = Field(0, ge=0, description="first updates in which only the critic learns")


class Train(Strict):
    """The trainer's loop."""

    updates: int = Field(100, ge=1)
    epochs: int = Field(1, ge=1, description="passes over an update's rows")
    minibatches: int = Field(1, ge=1, description="optimizer steps per pass")
    token_budget: int = Field(16384, ge=16, description="most tokens (padding included) in one forward pass")
    save_every: int = Field(10, ge=1, description="updates between checkpoints")
    keep_last: int = Field(3, ge=1, description="checkpoints to keep")
    gap_limit: float = Field(0.05, gt=0, description="mean |log-prob gap| engine/trainer that stops the run")


class Launch(Strict):
    """vLLM servers that are started, watched and stopped with the run, on this machine."""

    replicas: int = Field(1, ge=1, le=64)
    python: str | None = Field(None, description="interpreter of the environment that has vLLM; default: found")
    gpus: tuple[str, ...] = Field((), description="CUDA_VISIBLE_DEVICES of each replica, such as 0 or 0,1")
    port: int = Field(0, ge=0, le=65000, description="the first replica's; the others follow; 0: any free ones")
    start_deadline: float = Field(600.0, gt=0, description="seconds until a server must be healthy")
    restarts: int = Field(3, ge=0, description="how often a replica that died is started again")
    max_model_len: int | None = Field(None, ge=16, description="longest sequence in tokens; default: the model's")
    args: dict[str, Any] = Field(default_factory=dict, description="further flags of the server, without dashes")
    env: dict[str, str] = Field(default_factory=dict, description="further environment variables of the server")


class Engine(Strict):
    """Where completions come from: `hf`, transformers in this process, or `vllm`, servers at `urls` or of `launch`."""

    kind: Literal["hf", "vllm"] = "hf"
    max_batch: int = Field(512, ge=1, description="hf: sequences in one forward pass")
    reuse_cache: bool = Field(True, description="hf: keep keys and values from turn to turn")
    launch: Launch | None = None
    urls: tuple[str, ...] = Field((), description="vLLM servers that run already, http://host:port")
    admin_urls: tuple[str, ...] = Field((), description="where adapters are loaded, if urls are a router's")
    urls_file: str | None = Field(None, description="a file with one URL a line, read again whenever it changes")
    share: Literal["disk", "hub"] = Field(
        "disk", description="how servers at urls get adapters: a folder they see too, or downloads from this process"
    )
    share_host: str = Field("127.0.0.1", description="share hub: the address to serve adapters at")
    share_port: int = Field(0, ge=0, le=65535, description="share hub: its port; servers need it as HF_ENDPOINT")
    key_env: str = Field("MARFT_VLLM_KEY", description="environment variable that holds the servers' API key")
    concurrency: int = Field(256, ge=1, description="requests in flight per replica; the others wait here")
    balance: Literal["affinity", "least_loaded", "random"] = "affinity"
    request_deadline: float = Field(300.0, gt=0, description="seconds one request may take")
    retries: int = Field(4, ge=0, description="further attempts of a request, on other replicas where there are any")
    health_every: float = Field(2.0, gt=0, description="seconds between two looks at a replica")
    health_deadline: float = Field(10.0, gt=0, description="seconds in which a healthy replica says so")
    recover_deadline: float = Field(600.0, gt=0, description="seconds without any replica until the run stops")
    canary: float | None = Field(None, gt=0, description="largest log-prob gap of a probe; default by model.dtype")

    @model_validator(mode="before")
    @classmethod
    def _bare_kind(cls, data: Any) -> Any:
        return {"kind": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _has_servers(self) -> Engine:
        sources = [key for key in ("launch", "urls", "urls_file") if getattr(self, key)]
        if self.kind == "hf" and sources:
            raise ValueError(f"{sources[0]} is of kind vllm, and kind is hf")
        if self.kind == "vllm" and len(sources) != 1:
            raise ValueError(
                f"kind vllm takes exactly one of launch, urls, urls_file; {' and '.join(sources) or 'none'} is set"
            )
        if self.share == "hub" and self.kind == "vllm" and (self.launch or not self.share_port):
            raise ValueError("share hub is for servers at urls, which must know share_port; set it, or share disk")
        return self


class Recipe(Strict):
    """One training run, whole."""

    name: str = Field(min_length=1)
    seed: int = Field(0, ge=0)
    model: Model = Model()
    game: Game
    agents: dict[str, Agent] = Field(min_length=1)
    team: dict[str, Seat] = Field(default_factory=dict, description="seat -> policy; default: agents in order")
    past: Past = Past()
    remotes: dict[str, Remote] = Field(default_factory=dict, description="chat endpoints by name")
    adapter: Adapter = Adapter()
    optimizer: Optimizer = Optimizer()
    sampling: Sampling = Sampling()
    rollout: Rollout = Rollout()
    rewards: tuple[Reward, ...] = (Reward(use="payoff"),)
    algorithm: Algorithm
    critic: Critic = Critic()
    train: Train = Train()
    engine: Engine = Engine()
    trackers: tuple[str, ...] = Field(("tensorboard",), description="accelerate trackers")

    @property
    def policies(self) -> dict[str, Policy]:
        """Every policy that may sit somewhere, by the key it has in the recipe."""
        return {
            f"team.{seat}" + (f".pool[{number}]" if chosen.pool else ""): policy
            for seat, chosen in self.team.items()
            for number, policy in enumerate(chosen.choices)
        }

    def adapter_of(self, agent: str) -> Adapter:
        return self.agents[agent].adapter or self.adapter

    def optimizer_of(self, agent: str) -> Optimizer:
        return self.agents[agent].optimizer or self.optimizer
