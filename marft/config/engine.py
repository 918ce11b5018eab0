"""Where completions come from."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from marft.config.base import Strict


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
