"""Every setting, read once at the start: environment over file over defaults.

A setting is named HEADRACE_ and its path with double underscores (HEADRACE_HTTP__PORT); the file is TOML with the same
names in lower case, `headrace.toml` here or what HEADRACE_CONFIG names. Unknown names are refused, except
those that Kubernetes makes of its Services.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, TypeGuard

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, FilePath, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from streams.errors import SettingsError
from streams.service_links import service_links
from streams.tls import refuse_unusable
from streams.topics import Topics

PREFIX = "HEADRACE_"
FILE_VARIABLE = "HEADRACE_CONFIG"
DEFAULT_FILE = "headrace.toml"

Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=0, le=65535)]


def _address(text: str) -> str:
    found = re.fullmatch(r"[^\s,/]+:(\d{1,5})", text)
    if not found or not 0 < int(found[1]) < 1 << 16:
        raise ValueError("write host:port, with a port of 1 to 65535")
    return text


def _addresses(text: str) -> str:
    return ",".join(map(_address, text.split(",")))


def is_everywhere(host: str) -> bool:
    """Return whether listening on a host means all addresses of the machine, so that it names none of them."""
    try:
        return not host or ip_address(host).is_unspecified
    except ValueError:
        return False


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KafkaSettings(_Group):
    """How to speak to the brokers; passed through to every client."""

    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_cafile: FilePath | None = None
    ssl_certfile: FilePath | None = None
    ssl_keyfile: FilePath | None = None
    partitions: Positive = 4
    """Of the topics keyed by user, when Headrace creates them."""
    replication_factor: Positive = 1
    session_timeout_seconds: Annotated[float, Field(ge=1, le=3600)] = 6.0
    """The users of a worker that stays away move to another after this. Brokers allow no less than 6 by default."""
    on_new_topics: Literal["stop", "anew"] = "stop"
    """What a role does when a topic is not the one that its states, tables or weights were made of: stop with a
    sentence, or give them up and make them anew, as `headrace reset` does."""


class TritonSettings(_Group):
    """The model server."""

    url: Annotated[str, AfterValidator(_address)] = "127.0.0.1:8001"
    """gRPC address, host:port."""
    metrics_port: Port = 8002
    """Of the local server's own metrics; 0 is any free one."""
    device: Literal["cpu", "gpu"] = "cpu"
    timeout_ms: Positive = 40
    """A list waits this long for the model, then falls to a lower rung."""
    batch_users: Annotated[int, Field(gt=0, le=1024)] = 32
    """Users a request, no more than the backend takes; measured: 32 reach 87 % of in-process speed."""
    candidates: Annotated[int, Field(gt=0, le=10_000)] = 128
    """Items asked for a user, no more than the backend takes, before seen, retired and excluded ones are taken out."""
    max_behind_seconds: PositiveFloat = 60.0
    """A model that lacks a generation which the worker has had for longer is not asked for lists any more."""
    serve_untrained: bool = False
    """Serve a model that was never trained, which gives random items: for measurements without a learner."""
    control_token: SecretStr | None = None
    """Opens Triton's model-control API, which is closed to strangers when set."""
    tls_cafile: Path | None = None
    """PEM of the authorities that Triton's certificate is checked against; turns on TLS."""
    tls_certfile: Path | None = None
    """PEM of the worker's own certificate, where Triton asks for one."""
    tls_keyfile: Path | None = None


class StateSettings(_Group):
    """What is remembered of a user."""

    history_length: Annotated[int, Field(ge=1, le=1000)] = 50
    max_age_days: Positive = 730
    """Interactions older than this, against the newest one of the user, are forgotten."""
    idle_days: Positive = 365
    """A user without events for so long is forgotten, in the state and in its changelog."""
    kept: Annotated[int, Field(ge=0, le=255)] = 100
    """Of the purchases, likes and dislikes that no longer fit into a history, the newest so many outlive it."""
    duplicate_window: Annotated[int, Field(ge=0, le=4096)] = 1024
    """Event ids of a user that a repeated event is recognised by: those of the last two days on which the user did
    something, up to so many, and the last 16 however old. A request carries up to HEADRACE_HTTP__MAX_EVENTS."""
    max_late_seconds: Positive = 30 * 86400
    """An event older than the user's newest by more than this is dead-lettered as too late."""
    max_future_seconds: Positive = 300
    """Clock skew allowed to a producer."""
    cache_users: Positive = 20_000
    """Users whose state is held in memory, a worker."""
    standbys: Annotated[int, Field(ge=0, le=3)] = 1
    """Other workers that follow a partition's changelog, ready to take it."""


class ImpressionSettings(_Group):
    """How long an impression waits for what the user does with it."""

    window_hours: Positive = 7 * 24
    """An interaction follows an impression within this, in event time."""
    pending: Annotated[int, Field(ge=1, le=200)] = 20
    """Of a user, kept at once; the oldest makes room."""


def _as_filter(value: object) -> object:
    """Return the name for what was a switch before."""
    return {"true": "seen", "1": "seen", "false": "none", "0": "none"}.get(str(value).lower(), value)


class ServingSettings(_Group):
    """What a list looks like."""

    k: Annotated[int, Field(ge=1, le=100)] = 10
    filter_seen: Annotated[Literal["none", "bought", "seen"], BeforeValidator(_as_filter)] = "none"
    """Leave out what the user bought, or all of the history. Nothing by default: in many shops people buy again.
    Disliked items are left out always."""
    deadline_ms: Positive = 100
    """From reading an event to its list; what is late comes from a lower rung."""
    recommend: bool = True
    """Off: the worker folds events into state and answers none of them."""
    emit_examples: bool = True


class HttpSettings(_Group):
    """The worker's HTTP API."""

    host: str = "127.0.0.1"
    port: Port = 8080
    advertised: Annotated[str, AfterValidator(_address)] | None = None
    """host:port under which other workers reach this one; default host:port."""
    tokens: dict[str, Annotated[list[Literal["events", "read", "admin"]], Field(min_length=1)]] = Field(
        default={}, repr=False
    )
    """Bearer token to scopes. Empty means no authentication, which is allowed on loopback only."""
    max_body_bytes: Positive = 1_048_576
    max_events: Positive = 1000
    max_connections: Annotated[int, Field(ge=1, le=100_000)] = 500
    """Open at once; each takes one of the files that the process may have open, often 1024, and so does the table."""
    keep_alive_seconds: PositiveFloat = 75.0
    """A connection without a request is kept so long: longer than a load balancer keeps it, which is 60 s often."""
    requests_per_second: PositiveFloat | None = None
    """Limit a client; none by default."""
    tls_certfile: Path | None = None
    tls_keyfile: Path | None = None

    @property
    def local_address(self) -> str:
        """host:port under which this machine reaches the API."""
        host = self.host
        if is_everywhere(host):
            host = "::1" if ":" in host else "127.0.0.1"
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


class LearnerSettings(_Group):
    """The learner's clockwork; the learning itself is configured in the engine."""

    generation_seconds: PositiveFloat = 0.7
    version_seconds: PositiveFloat = 300.0
    checkpoint_seconds: PositiveFloat = 10.0
    """Between two checkpoints at least; more where one takes long."""
    micro_batch: Positive = 256
    """Outcomes predicted, scored and learned together at most."""
    policy: Literal["cautious", "fresh"] = "fresh"
    canary_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Of users that a canary serves before a promotion; 0 promotes without one."""
    preset: Literal["tiny", "small", "base"] = "small"
    """Size of the model."""
    text: Literal["hash", "none"] = "hash"
    """What makes vectors of items' titles, categories and texts."""
    threads: Positive = 1


class LogSettings(_Group):
    """What is written to stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


def _named(path: object) -> object:
    if path == "":  # which is what an unset variable of a script leaves, and Path takes for the folder one is in
        raise ValueError("name a folder")
    return path


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


class Settings(BaseSettings):
    """All settings of all roles."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid", validate_default=True
    )

    broker: Annotated[str, AfterValidator(_addresses)] = "127.0.0.1:9092"
    """Kafka bootstrap servers, host:port[,host:port…]."""
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]*$")] = "headrace."
    """Before every topic and group name, so that deployments can share a Kafka."""
    data_dir: Annotated[Path, BeforeValidator(_named), AfterValidator(_absolute)] = Path(".headrace")
    """Local Kafka and Triton, the workers' tables and the learner's checkpoints."""
    worker_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")] = "worker-1"
    """Names the worker's folder of tables; unlike for each worker on a machine."""
    metrics_host: str = "127.0.0.1"
    """Where the ports of the metrics listen: whoever reaches them needs no token."""
    worker_metrics_port: Port | None = None
    """A worker's metrics are a route of its API, for tokens that may `admin`; with this they have a port as well."""
    learner_metrics_port: Port = 9102
    pseudonym_key: SecretStr | None = None
    """When set, user ids are replaced by their keyed hash before anything is stored."""

    kafka: KafkaSettings = KafkaSettings()
    triton: TritonSettings = TritonSettings()
    state: StateSettings = StateSettings()
    impressions: ImpressionSettings = ImpressionSettings()
    serving: ServingSettings = ServingSettings()
    http: HttpSettings = HttpSettings()
    learner: LearnerSettings = LearnerSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(  # the signature is pydantic-settings'
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments over environment over file."""
        path = Path(os.environ.get(FILE_VARIABLE, DEFAULT_FILE))
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, path)

    @property
    def topics(self) -> Topics:
        """The full names of topics and groups."""
        return Topics(self.prefix)

    @property
    def models_dir(self) -> Path:
        """The Triton model repository that versions are written to."""
        return self.data_dir / "models"


def load_settings(**overrides: Any) -> Settings:  # noqa: ANN401 - as pydantic takes them
    """Return the settings in force.

    Raises:
        SettingsError: one sentence that names the wrong setting.
    """
    _refuse_unknown(os.environ)
    _refuse_broken_json(os.environ)
    file = os.environ.get(FILE_VARIABLE)
    if file and not Path(file).is_file():
        raise SettingsError(f"{FILE_VARIABLE} names {file}, which is no file; correct the path or unset it.")
    try:
        settings = Settings(**overrides)
    except ValidationError as exc:
        first = exc.errors()[0]
        path = [str(part) for part in first["loc"]]
        if "tokens" in path:  # what follows is the token itself
            del path[path.index("tokens") + 1 :]
        name = PREFIX + "__".join(path).upper()
        raise SettingsError(
            f"Setting {name} is wrong: {first['msg'].removeprefix('Value error, ')} (got {_shown(first)})."
        ) from exc
    except (ValueError, OSError) as exc:
        raise SettingsError(f"The settings in {file or DEFAULT_FILE} cannot be read as TOML: {exc}.") from exc
    _refuse_contradictions(settings)
    return settings


def describe(settings: Settings) -> dict[str, Any]:
    """Return the settings as plain values, secrets masked."""
    plain = settings.model_dump(mode="json")
    plain["http"]["tokens"] = {
        f"token {number} (masked)": scopes for number, scopes in enumerate(settings.http.tokens.values(), start=1)
    }
    return plain


def _refuse_unknown(environment: Mapping[str, str]) -> None:
    known, links = {FILE_VARIABLE, *_variables(Settings, PREFIX)}, service_links(environment)
    for name in environment:
        if name in known & links and "://" in environment[name]:
            raise SettingsError(
                f"Setting {name} is what Kubernetes makes of a Service of this name; set enableServiceLinks: false in "
                "the pod, or rename the Service."
            )
        if not name.startswith(PREFIX) or name in known | links:
            continue
        if any(name.startswith(f"{group}__") for group in (f"{PREFIX}HTTP__TOKENS",)):
            continue
        raise SettingsError(f"Setting {name} is unknown; `headrace config` lists the known ones.")


def _refuse_broken_json(environment: Mapping[str, str]) -> None:
    groups = {f"{PREFIX}{name.upper()}" for name, field in Settings.model_fields.items() if _is_group(field.annotation)}
    for name in environment.keys() & {*groups, f"{PREFIX}HTTP__TOKENS"}:
        try:
            json.loads(environment[name])
        except ValueError as exc:  # it may quote a secret
            raise SettingsError(f"Setting {name} is wrong: it is no JSON object.") from exc


def _is_group(annotation: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _variables(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield (variable := f"{prefix}{name.upper()}")
        if _is_group(field.annotation):
            yield from _variables(field.annotation, f"{variable}__")


def _refuse_contradictions(settings: Settings) -> None:
    kafka = settings.kafka
    if kafka.security_protocol.startswith("SASL") and not (kafka.sasl_mechanism and kafka.sasl_username):
        raise SettingsError(
            "HEADRACE_KAFKA__SECURITY_PROTOCOL asks for SASL: set HEADRACE_KAFKA__SASL_MECHANISM, __SASL_USERNAME and "
            "__SASL_PASSWORD too."
        )
    if not settings.http.tokens and settings.http.host not in {"127.0.0.1", "::1", "localhost"}:
        raise SettingsError(
            f"HEADRACE_HTTP__HOST is {settings.http.host}, open to others, and HEADRACE_HTTP__TOKENS is empty; set "
            'tokens, as in {"a-long-secret": ["events", "read"]}, or listen on 127.0.0.1.'
        )
    if settings.http.advertised is None and is_everywhere(settings.http.host):
        raise SettingsError(
            f"HEADRACE_HTTP__HOST is {settings.http.host or 'empty'}, which is every address of this machine and none "
            "that other workers can ask; set HEADRACE_HTTP__ADVERTISED to host:port as they reach this worker."
        )
    triton = settings.triton
    if (triton.tls_certfile is None) != (triton.tls_keyfile is None) or (triton.tls_certfile and not triton.tls_cafile):
        raise SettingsError(
            "HEADRACE_TRITON__TLS_CERTFILE and __TLS_KEYFILE go together, and with HEADRACE_TRITON__TLS_CAFILE, which "
            "turns on TLS; set all three or the last alone."
        )
    http = settings.http
    refuse_unusable(f"{PREFIX}KAFKA__SSL_", kafka.ssl_cafile, kafka.ssl_certfile, kafka.ssl_keyfile)
    refuse_unusable(f"{PREFIX}TRITON__TLS_", triton.tls_cafile, triton.tls_certfile, triton.tls_keyfile)
    refuse_unusable(f"{PREFIX}HTTP__TLS_", None, http.tls_certfile, http.tls_keyfile)
    if settings.serving.k > triton.candidates:
        raise SettingsError("HEADRACE_SERVING__K is above HEADRACE_TRITON__CANDIDATES; raise the latter.")


def _shown(error: Any) -> str:  # noqa: ANN401 - pydantic's error details
    value = error.get("input")
    secret = {"sasl_password", "control_token", "pseudonym_key", "tokens"} & {str(part) for part in error["loc"]}
    return "a secret" if secret else repr(value)[:80]
