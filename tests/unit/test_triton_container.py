"""Triton's container is configured by the settings of the other roles, and as closed as the local server."""

from pathlib import Path

from pydantic import SecretStr

from streams.settings import KafkaSettings, LearnerSettings, Settings, TritonSettings
from streams.triton.container import seeded, server_command
from streams.triton.server import CONTROL_KEY, RESTRICTED, backend_settings


def test_an_empty_repository_is_seeded_with_the_learners_preset_once(tmp_path: Path) -> None:
    tiny = Settings(data_dir=tmp_path, learner=LearnerSettings(preset="tiny"))
    small = Settings(data_dir=tmp_path, learner=LearnerSettings(preset="small"))
    repository = seeded(tiny)
    size = repository.file(1).stat().st_size
    assert seeded(small).versions() == [1]
    assert repository.file(1).stat().st_size == size


def test_the_backend_is_told_kafkas_credentials_and_the_topic_of_the_prefix() -> None:
    kafka = KafkaSettings(
        security_protocol="SASL_PLAINTEXT", sasl_mechanism="PLAIN", sasl_username="ann", sasl_password=SecretStr("p")
    )
    told = backend_settings(Settings(broker="kafka:9092", prefix="shop.", kafka=kafka))
    assert told["topic"] == "shop.weights"
    assert told["consumer"]["bootstrap.servers"] == "kafka:9092"
    assert (told["consumer"]["sasl.username"], told["consumer"]["sasl.password"]) == ("ann", "p")


def test_grpc_and_http_are_closed_by_the_same_token_which_is_new_each_time_without_a_setting(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, triton=TritonSettings(control_token=SecretStr("t")))
    command = server_command(settings, seeded(settings), ["--grpc-use-ssl=true"])
    assert f"--grpc-restricted-protocol={RESTRICTED}:{CONTROL_KEY}=t" in command
    assert f"--http-restricted-api={RESTRICTED}:{CONTROL_KEY}=t" in command
    assert "--http-address=127.0.0.1" in command
    assert command[-1] == "--grpc-use-ssl=true"
    without = Settings(data_dir=tmp_path)
    once, again = (server_command(without, seeded(without), []) for _ in range(2))
    assert once != again
