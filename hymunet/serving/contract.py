"""What OpenAPI says of a request for a mask, and the headers that every answer carries."""

from typing import Any

SEGMENT = "/v1/segment"
KEY = "HYMUNET_API_KEY"  # the environment variable that holds the key which requests must bring
GONE = 499  # in the metrics: the client left before its answer

_FILE = {"type": "string", "format": "binary"}
_FORM = {"type": "object", "required": ["image"], "properties": {"image": _FILE}}
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "One image: PNG, JPEG, WebP, TIFF or BMP, as the body itself or as the form's field `image`.",
        "content": {
            **{kind: {"schema": _FILE} for kind in ("image/png", "image/jpeg", "application/octet-stream")},
            "multipart/form-data": {"schema": _FORM},
        },
    },
}
_POINTS = {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}}
_REGION = {
    "outline": _POINTS,
    "holes": {"type": "array", "items": _POINTS},
    "box": {"type": "array", "items": {"type": "integer"}, "description": "x, y, width, height"},
    "area_pixels": {"type": "integer"},
}
_FACTS = {
    "model": {"type": "object", "description": "source and weights_sha256 of the version that answered"},
    "width": {"type": "integer"},
    "height": {"type": "integer"},
    "threshold": {"type": "number"},
    "area_pixels": {"type": "integer"},
    "area_fraction": {"type": "number"},
    "confidence": {"type": "number", "description": "Dice of the mask with the probabilities; 0 without a mask"},
    "regions": {"type": "array", "items": {"type": "object", "properties": _REGION}},
    "use": {"type": "string", "description": "what the answer may be used for"},
    "image_jpeg": {"type": "string", "format": "byte", "description": "output=all: the image as it was segmented"},
    "mask_png": {"type": "string", "format": "byte", "description": "output=all"},
    "probability_png": {"type": "string", "format": "byte", "description": "output=all"},
}
_ERROR = {
    "application/json": {"schema": {"type": "object", "properties": {"error": {"type": "string"}}}},
}
CODES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Measures and contours, or a PNG of the image's size: mask (0, 255) or probabilities.",
        "content": {
            "application/json": {"schema": {"type": "object", "properties": _FACTS}},
            "image/png": {"schema": _FILE},
        },
    },
    **{
        status: {"description": text, "content": _ERROR}
        for status, text in {
            400: "The form is broken or holds no file `image`.",
            401: "The key is missing or wrong.",
            406: "Accept allows neither JSON nor PNG.",
            408: "The upload was too slow.",
            413: "Too many bytes or pixels.",
            415: "No image of a kind that is read here.",
            422: "The image is empty, damaged or an animation; or `output` is none of its values.",
            429: "Too many requests at once; Retry-After says when to come again.",
            503: "No answer in time, or about to stop; Retry-After says when to come again.",
        }.items()
    },
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
