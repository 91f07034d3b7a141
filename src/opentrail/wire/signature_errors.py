"""AWS's answers to requests whose signature it refuses (cloudtrail-format §10.3)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto


class Problem(Enum):
    """Why a signature is refused."""

    MISSING = auto()
    UNSUPPORTED = auto()
    TWICE = auto()
    INCOMPLETE = auto()
    CREDENTIAL = auto()
    QUERY = auto()
    NO_DATE = auto()
    SCOPE_DATE = auto()
    SCOPE_REGION = auto()
    SCOPE_SERVICE = auto()
    SCOPE_TERMINATOR = auto()
    HOST_NOT_SIGNED = auto()
    HEADER_NOT_SIGNED = auto()
    EXPIRED = auto()
    EARLY = auto()
    PRESIGNED_EXPIRED = auto()
    PRESIGNED_EARLY = auto()
    CONTENT_HASH = auto()
    CONTENT_HASH_MISSING = auto()
    CONTENT_MISMATCH = auto()
    UNKNOWN_KEY = auto()
    TOKEN_INVALID = auto()
    TOKEN_EXPIRED = auto()
    MISMATCH = auto()


class SignatureRefused(Exception):  # noqa: N818 - it is an answer as much as an error
    """A request whose signer is not verified, with status, code and message of AWS's answer."""

    def __init__(self, problem: Problem, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.problem = problem
        self.status = status
        self.code = code
        self.message = message
        #: The key that the request names, if it names one.
        self.access_key_id: str | None = None


class Wording:
    """Statuses, codes and messages of the services that share a protocol."""

    def __init__(self, answers: Mapping[Problem, tuple[int, str, str]]) -> None:
        self._answers = answers

    def refusal(self, problem: Problem, **details: str) -> SignatureRefused:
        """Returns the refusal; `details` fill the text."""
        status, code, text = self._answers[problem]
        return SignatureRefused(problem, status, code, text.format(**details))


_NOT_CURRENT = {
    Problem.EXPIRED: "Signature expired: {stamp} is now earlier than {limit} ({now} - {window})",
    Problem.EARLY: (
        "Signature not yet current: {stamp} is still later than {limit} ({now} + {window})"
    ),
}
_TEXTS = {
    Problem.MISSING: "Missing Authentication Token",
    Problem.UNSUPPORTED: "Unsupported AWS 'algorithm': '{given}'.",
    Problem.TWICE: "'{given}' must be given only once.",
    Problem.INCOMPLETE: "{reason}",
    Problem.CREDENTIAL: (
        "Credential must have exactly 5 slash-delimited elements, "
        "e.g. keyid/date/region/service/term, got '{given}'"
    ),
    Problem.QUERY: "{reason}",
    Problem.NO_DATE: (
        "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
    ),
    Problem.SCOPE_DATE: (
        "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from "
        "HTTP: '{given}' != '{expected}', from '{stamp}'."
    ),
    Problem.SCOPE_REGION: "Credential should be scoped to a valid region, not '{given}'. ",
    Problem.SCOPE_SERVICE: "Credential should be scoped to correct service: '{expected}'. ",
    Problem.SCOPE_TERMINATOR: (
        "Credential should be scoped with a valid terminator: 'aws4_request', not '{given}'. "
    ),
    Problem.HOST_NOT_SIGNED: (
        "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."
    ),
    Problem.HEADER_NOT_SIGNED: "'{given}' must be a 'SignedHeader' in the AWS Authorization.",
    **_NOT_CURRENT,
    Problem.PRESIGNED_EXPIRED: _NOT_CURRENT[Problem.EXPIRED],
    Problem.PRESIGNED_EARLY: _NOT_CURRENT[Problem.EARLY],
    Problem.UNKNOWN_KEY: "The security token included in the request is invalid.",
    Problem.TOKEN_INVALID: "The security token included in the request is invalid.",
    Problem.TOKEN_EXPIRED: "The security token included in the request is expired",
    Problem.MISMATCH: (
        "The request signature we calculated does not match the signature you provided. Check "
        "your AWS Secret Access Key and signing method. Consult the service documentation for "
        "details."
    ),
}
for _problem in (Problem.CONTENT_HASH, Problem.CONTENT_HASH_MISSING, Problem.CONTENT_MISMATCH):
    _TEXTS[_problem] = _TEXTS[Problem.MISMATCH]

_INCOMPLETE = (
    Problem.UNSUPPORTED,
    Problem.TWICE,
    Problem.INCOMPLETE,
    Problem.CREDENTIAL,
    Problem.QUERY,
    Problem.NO_DATE,
)


def _wording(
    mismatch: tuple[int, str],
    incomplete: tuple[int, str],
    missing: tuple[int, str],
    unknown: tuple[int, str],
    expired: tuple[int, str],
    texts: Mapping[Problem, str] | None = None,
) -> Wording:
    answers = dict.fromkeys(Problem, mismatch)
    answers |= dict.fromkeys(_INCOMPLETE, incomplete)
    answers[Problem.MISSING] = missing
    answers |= dict.fromkeys((Problem.UNKNOWN_KEY, Problem.TOKEN_INVALID), unknown)
    answers[Problem.TOKEN_EXPIRED] = expired
    all_texts = {**_TEXTS, **(texts or {})}
    return Wording({problem: (*answers[problem], all_texts[problem]) for problem in Problem})


JSON_WORDING = _wording(
    (400, "InvalidSignatureException"),
    (400, "IncompleteSignatureException"),
    (400, "MissingAuthenticationTokenException"),
    (400, "UnrecognizedClientException"),
    (400, "ExpiredTokenException"),
)
REST_JSON_WORDING = _wording(
    (403, "InvalidSignatureException"),
    (403, "IncompleteSignatureException"),
    (403, "MissingAuthenticationTokenException"),
    (403, "UnrecognizedClientException"),
    (403, "ExpiredTokenException"),
)
#: Also for Route 53, CloudFront and S3 Control, which speak XML without being S3.
QUERY_WORDING = _wording(
    (403, "SignatureDoesNotMatch"),
    (400, "IncompleteSignature"),
    (403, "MissingAuthenticationToken"),
    (403, "InvalidClientTokenId"),
    (403, "ExpiredToken"),
    {Problem.MISSING: "Request is missing Authentication Token"},
)


def _ec2() -> Wording:
    invalid = "AWS was not able to validate the provided access credentials"
    failure, over = (401, "AuthFailure", invalid), (400, "RequestExpired", "Request has expired.")
    incomplete = (400, "IncompleteSignature")
    answers = dict.fromkeys(Problem, failure)
    answers |= {problem: (*incomplete, _TEXTS[problem]) for problem in _INCOMPLETE}
    missing = "Request is missing Authentication Token"
    answers[Problem.MISSING] = (403, "MissingAuthenticationToken", missing)
    for problem in (Problem.EXPIRED, Problem.PRESIGNED_EXPIRED, Problem.TOKEN_EXPIRED):
        answers[problem] = over
    return Wording(answers)


EC2_WORDING = _ec2()

_HEADER_MALFORMED = (400, "AuthorizationHeaderMalformed")
_MALFORMED = "The authorization header is malformed; "
_S3_CREDENTIAL = (
    'the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".'
)
_SKEWED = "The difference between the request time and the current time is too large."
_TOO_SKEWED = (403, "RequestTimeTooSkewed", _SKEWED)
S3_WORDING = Wording(
    {
        Problem.MISSING: (403, "AccessDenied", "Access Denied"),
        Problem.UNSUPPORTED: (
            400,
            "InvalidRequest",
            "The authorization mechanism you have provided is not supported. "
            "Please use AWS4-HMAC-SHA256.",
        ),
        Problem.TWICE: (
            400,
            "InvalidArgument",
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, "
            "Signature query string parameter or the Authorization header should be specified",
        ),
        Problem.INCOMPLETE: (
            *_HEADER_MALFORMED,
            _MALFORMED + "the authorization header requires three components: Credential, "
            "SignedHeaders, and Signature.",
        ),
        Problem.CREDENTIAL: (*_HEADER_MALFORMED, _MALFORMED + _S3_CREDENTIAL),
        Problem.QUERY: (400, "AuthorizationQueryParametersError", "{reason}"),
        Problem.NO_DATE: (
            403,
            "AccessDenied",
            "AWS authentication requires a valid Date or x-amz-date header",
        ),
        Problem.SCOPE_DATE: (
            *_HEADER_MALFORMED,
            _MALFORMED + 'Invalid credential date "{given}". This date is not the same as '
            'X-Amz-Date: "{expected}".',
        ),
        Problem.SCOPE_REGION: (
            *_HEADER_MALFORMED,
            _MALFORMED + "the region '{given}' is wrong; expecting '{expected}'",
        ),
        Problem.SCOPE_SERVICE: (
            *_HEADER_MALFORMED,
            _MALFORMED + 'incorrect service "{given}". This endpoint belongs to "{expected}".',
        ),
        Problem.SCOPE_TERMINATOR: (
            *_HEADER_MALFORMED,
            _MALFORMED + 'incorrect terminator "{given}". This endpoint uses "aws4_request".',
        ),
        Problem.HOST_NOT_SIGNED: (403, "SignatureDoesNotMatch", _TEXTS[Problem.HOST_NOT_SIGNED]),
        Problem.HEADER_NOT_SIGNED: (
            403,
            "AccessDenied",
            "There were headers present in the request which were not signed",
        ),
        Problem.EXPIRED: _TOO_SKEWED,
        Problem.EARLY: _TOO_SKEWED,
        Problem.PRESIGNED_EXPIRED: (403, "AccessDenied", "Request has expired"),
        Problem.PRESIGNED_EARLY: (403, "AccessDenied", "Request is not valid yet"),
        Problem.CONTENT_HASH: (
            400,
            "InvalidArgument",
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, "
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER, "
            "or a valid sha256 value.",
        ),
        Problem.CONTENT_HASH_MISSING: (
            400,
            "InvalidRequest",
            "Missing required header for this request: x-amz-content-sha256",
        ),
        Problem.CONTENT_MISMATCH: (
            400,
            "XAmzContentSHA256Mismatch",
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        ),
        Problem.UNKNOWN_KEY: (
            403,
            "InvalidAccessKeyId",
            "The AWS Access Key Id you provided does not exist in our records.",
        ),
        Problem.TOKEN_INVALID: (
            400,
            "InvalidToken",
            "The provided token is malformed or otherwise invalid.",
        ),
        Problem.TOKEN_EXPIRED: (400, "ExpiredToken", "The provided token has expired."),
        Problem.MISMATCH: (
            403,
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. "
            "Check your key and signing method.",
        ),
    }
)
#: By the protocol of an operation, except for S3.
WORDINGS = {
    "json": JSON_WORDING,
    "cbor": JSON_WORDING,
    "rest-json": REST_JSON_WORDING,
    "query": QUERY_WORDING,
    "ec2": EC2_WORDING,
    "rest-xml": QUERY_WORDING,
}
