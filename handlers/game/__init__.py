from flask import Blueprint
from handlers import plain_error as refuse

bp = Blueprint("game", __name__, url_prefix="/game/v1")
