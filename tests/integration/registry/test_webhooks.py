"""A real MLflow server tells of a promotion by itself: its own webhooks, signed by it."""

import base64
import hashlib
import hmac
import json
import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography.fernet import Fernet

from hymunet.registry.ledger import Ledger, State
from tests.support.servers import start_mlflow

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
SECRET = "known-to-both"


@pytest.fixture
def received():
    """The address of a receiver, and what it was sent: headers and bodies."""
    sent = queue.Queue()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            sent.put((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", sent
    server.shutdown()


def test_the_server_tells_who_is_champion(received, tmp_path, monkeypatch):
    import mlflow

    address, sent = received
    monkeypatch.setenv("MLFLOW_WEBHOOK_ALLOWED_SCHEMES", "http")  # the receiver is on this machine
    monkeypatch.setenv("MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS", "true")
    monkeypatch.setenv("MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY", Fernet.generate_key().decode())
    running = start_mlflow(f"sqlite:///{tmp_path}/mlflow.db", tmp_path)
    try:
        client = mlflow.MlflowClient(running.uri, running.uri)
        client.create_webhook("promotions", address, ["model_version_alias.created"], secret=SECRET)
        client.create_registered_model("hooked")
        run = client.create_run("0").info
        client.create_model_version("hooked", f"{run.artifact_uri}/model", run.run_id)
        ledger = Ledger(client, "hooked", lambda: State(0, (), {}))
        ledger.append("promote", "1", ledger.state())
        ledger.settle(lambda version: True)
        headers, body = sent.get(timeout=60)
    finally:
        running.server.stop()
    event = json.loads(body)
    assert (event["entity"], event["action"]) == ("model_version_alias", "created")
    assert event["data"] == {"name": "hooked", "alias": "champion", "version": "1"}
    signed = f"{headers['X-MLflow-Delivery-Id']}.{headers['X-MLflow-Timestamp']}.{body.decode()}".encode()
    expected = base64.b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()).decode()
    assert headers["X-MLflow-Signature"] == f"v1,{expected}"
