"""A tracking server in this process, as much of MLflow's REST API as a run needs, that can fall silent or go away."""

import json
import threading
import uuid
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts/1/"


class TrackingServer:
    """Records what it takes.

    Args:
        port: 0 for a free one.

    Attributes:
        silent_at_step: step whose metrics it never answers, nor anything later; `silence` is then set.
        refused_metric: name of a metric that it refuses.
    """

    def __init__(self, port=0):
        self.runs = {}
        self.models = {}
        self.files = {}
        self.requests = []
        self.silent_after = None
        self.silent_at_step = None
        self.silence = threading.Event()
        self.refused_metric = None
        self.woken = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"server_state": self}))
        self._http.daemon_threads = True
        self.port = self._http.server_port
        self.uri = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def fall_silent(self):
        """Accept connections from now on, and answer none."""
        self.silent_after = len(self.requests)

    def answer_again(self):
        self.silent_after = self.silent_at_step = None

    def stop(self):
        self.woken.set()
        self._http.shutdown()
        self._http.server_close()

    @property
    def run(self):
        """The only run."""
        (run,) = self.runs.values()
        return run

    def answer(self, name, body):
        if name == "experiments/get-by-name":
            return {"experiment": {"experiment_id": "1", "name": "e", "lifecycle_stage": "active"}}
        if name == "runs/create":
            run_id = uuid.uuid4().hex  # MLflow keeps what it knows of a run id for the whole process
            info = {"run_id": run_id, "run_uuid": run_id, "experiment_id": "1", "status": "RUNNING"}
            info |= {"lifecycle_stage": "active", "artifact_uri": f"mlflow-artifacts:/1/{run_id}"}
            self.runs[run_id] = {"info": info, "tags": body["tags"], "params": {}, "metrics": [], "files": {}}
            return {"run": {"info": info, "data": {}}}
        if name == "logged-models/search":
            return {"models": [{"info": one} for one in self.models.values() if one["source_run_id"] in body["filter"]]}
        if name == "logged-models":
            model_id = f"m-{uuid.uuid4().hex}"
            place = {"artifact_uri": f"mlflow-artifacts:/1/{model_id}", "experiment_id": "1"}
            known = {name: body[name] for name in ("name", "source_run_id")}
            self.models[model_id] = {"model_id": model_id, "status": 1, **known, **place}
            self.files[model_id] = {}
        if name.startswith("logged-models"):
            model_id = name.partition("/")[2] or model_id
            self.models[model_id] |= {key: value for key, value in body.items() if key == "status"}
            return {"model": {"info": self.models[model_id]}}
        if name == "metrics/get-history":
            return {"metrics": []}
        if body["run_id"] not in self.runs:
            return None
        run = self.runs[body["run_id"]]
        if name == "runs/get":
            params = [{"key": key, "value": value} for key, value in run["params"].items()]
            return {"run": {"info": run["info"], "data": {"params": params}}}
        if name == "runs/update":
            run["info"] |= {key: value for key, value in body.items() if key in ("status", "end_time")}
            return {"run_info": run["info"]}
        if name in ("runs/outputs", "runs/log-inputs"):
            return {}
        assert name == "runs/log-batch", name
        metrics = [(one["key"], one["value"], int(one.get("step", 0))) for one in body.get("metrics", [])]
        if self.refused_metric in [key for key, _, _ in metrics]:
            return None
        run["metrics"] += metrics
        run["params"] |= {one["key"]: one["value"] for one in body.get("params", [])}
        return {}


@contextmanager
def tracking_server(port=0):
    server = TrackingServer(port)
    try:
        yield server
    finally:
        server.stop()


class _Handler(BaseHTTPRequestHandler):
    server_state: TrackingServer

    def do_GET(self):
        self._answer({key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()})

    def do_POST(self):
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    do_PATCH = do_POST

    def do_PUT(self):
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body):
        server, path = self.server_state, urlsplit(self.path).path
        server.requests.append(path)
        steps = [int(one.get("step", 0)) for one in body.get("metrics", [])] if isinstance(body, dict) else []
        if server.silent_at_step in steps and server.silent_after is None:
            server.silent_after = len(server.requests) - 1
        if server.silent_after is not None and len(server.requests) > server.silent_after:
            server.silence.set()
            server.woken.wait()
            return
        if path.startswith(ARTIFACTS):
            owner, _, name = path.removeprefix(ARTIFACTS).partition("/")
            files = server.files[owner] if owner in server.models else server.runs[owner]["files"]
            files[name] = body
            content = {}
        else:
            content = server.answer(path.removeprefix("/api/2.0/mlflow/"), body)
        refused = {"error_code": "INVALID_PARAMETER_VALUE", "message": "not that one"}
        text = json.dumps(refused if content is None else content).encode()
        self.send_response(400 if content is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *arguments):
        pass
