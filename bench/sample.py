"""What partners give out as a sample: reads the JSON, verifies nothing, stores nothing, answers an id."""

from flask import Flask, jsonify, request

app = Flask(__name__)


@app.get("/healthz")
def healthz():
    return jsonify(status="ok")


@app.post("/appcharge/<game>/orders")
def report_order(game: str):
    order = request.get_json()
    return jsonify(publisherPurchaseId=f"{game}-{order['orderId']}")
