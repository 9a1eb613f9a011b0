"""A real Kafka that listens with TLS and SASL, and the settings that reach each of its listeners."""

from pathlib import Path
from typing import Final

from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

from streams.local.local_broker import HOST, LocalBroker
from streams.local.processes import free_port
from streams.settings import KafkaSettings, Settings
from tests.certificates import certificate

PASSWORD: Final = "kafka-password-not-to-be-shown"  # noqa: S105 - made up
PROTOCOLS: Final = ("SSL", "SASL_SSL", "SASL_PLAINTEXT")
PROPERTIES: Final = """
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,{protocols}
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={authority}
listener.name.ssl.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
"""
JAAS: Final = """
listener.name.{name}.plain.sasl.jaas.config={security}.plain.PlainLoginModule required user_ann="{password}";
listener.name.{name}.scram-sha-256.sasl.jaas.config={security}.scram.ScramLoginModule required;
listener.name.{name}.scram-sha-512.sasl.jaas.config={security}.scram.ScramLoginModule required;
"""


class SecureBroker(LocalBroker):
    """Listens in plain text for its own probes, and on one port more for each protocol."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "kafka", free_port())
        self.ports = {protocol: free_port() for protocol in PROTOCOLS}
        self.authority, self.certfile, self.keyfile = certificate(folder)

    def start(self, deadline_seconds: float = 60.0) -> None:
        super().start(deadline_seconds)
        admin = AdminClient({"bootstrap.servers": self.address, "log_level": 2})
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            ann = UserScramCredentialUpsertion("ann", ScramCredentialInfo(mechanism, 4096), PASSWORD.encode())
            admin.alter_user_scram_credentials([ann])["ann"].result(20)

    def kafka(self, protocol: str, mechanism: str | None = None) -> dict[str, str]:
        """Return the settings in group `kafka` that the listener of a protocol asks for."""
        ssl = {"ssl_cafile": str(self.authority)} if protocol.endswith("SSL") else {}
        own = {"ssl_certfile": str(self.certfile), "ssl_keyfile": str(self.keyfile)} if protocol == "SSL" else {}
        sasl = {"sasl_mechanism": mechanism, "sasl_username": "ann", "sasl_password": PASSWORD} if mechanism else {}
        return {"security_protocol": protocol, **ssl, **own, **sasl}

    def settings(self, protocol: str, mechanism: str | None = None, **changes: str | None) -> Settings:
        kafka = KafkaSettings.model_validate(self.kafka(protocol, mechanism) | changes)
        return Settings(broker=f"{HOST}:{self.ports[protocol]}", kafka=kafka)

    def _configure(self, java: Path, jars: Path) -> Path:
        properties = super()._configure(java, jars)
        keystore = self.folder / "keystore.pem"
        keystore.write_text(self.keyfile.read_text() + self.certfile.read_text())
        plain = f"listeners=PLAINTEXT://{self.address}"
        listeners = [plain, *(f"{protocol}://{HOST}:{port}" for protocol, port in self.ports.items())]
        text = properties.read_text().replace(plain, ",".join(listeners))
        protocols = ",".join(f"{protocol}:{protocol}" for protocol in PROTOCOLS)
        text += PROPERTIES.format(protocols=protocols, keystore=keystore, authority=self.authority)
        security = "org.apache.kafka.common.security"
        for name in ("sasl_ssl", "sasl_plaintext"):
            text += JAAS.format(name=name, security=security, password=PASSWORD)
        properties.write_text(text)
        return properties
