"""XML as a small tree, and values by shape."""

from typing import Any
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.wire.body_formats import Element, parse_xml, xml_decoders
from tests.factories import catalog

BILLION_LAUGHS = b"""<?xml version="1.0"?>
<!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<lolz>&b;</lolz>"""
EXTERNAL = b"""<?xml version="1.0"?>
<!DOCTYPE x [<!ENTITY secret SYSTEM "file:///etc/passwd">]><x>&secret;</x>"""


def decode(service: str, operation: str, member: str, raw: bytes) -> Any:
    model = catalog().services[service].operation(operation)
    assert model is not None
    shape = model.input_shape.members[member]
    return xml_decoders(service).decoder(shape)(parse_xml(raw))


# The tree


def test_names_strings_and_attributes_are_kept_unchanged() -> None:
    root = parse_xml(
        b'<a:Root xmlns:a="http://x/" id="7"><Name>x &amp; y</Name><Name>z</Name></a:Root>'
    )
    assert root.local_name == "Root"
    assert root.attributes == {"xmlns:a": "http://x/", "id": "7"}
    assert [child.text for child in root.children] == ["x & y", "z"]
    assert root.text_of("Name") == "x & y"
    assert root.child("Other") is None
    assert root.text_of("Other") is None


def test_text_in_pieces_is_one_text() -> None:
    assert parse_xml(b"<a>x<![CDATA[<y>]]>&#122;<!-- no --></a>").text == "x<y>z"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1"])
def test_a_document_may_have_its_declared_encoding(encoding: str) -> None:
    text = f'<?xml version="1.0" encoding="{encoding}"?><a>Grüße</a>'
    assert parse_xml(text.encode(encoding)).text == "Grüße"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"   ",
        b"text",
        b"<a>",
        b"<a></b>",
        b"<a/><b/>",
        b"<a>&nbsp;</a>",
        b"<a>\xff</a>",
        b'<a x="1" x="2"/>',
        b"<a>\x00</a>",
        b"{}",
    ],
)
def test_malformed_input_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="XML"):
        parse_xml(raw)


@pytest.mark.parametrize(
    "raw", [BILLION_LAUGHS, EXTERNAL, b"<!DOCTYPE a><a/>", b'<!DOCTYPE a SYSTEM "a.dtd"><a/>']
)
def test_a_document_type_is_refused_with_every_entity(raw: bytes) -> None:
    with pytest.raises(ValueError, match="document type"):
        parse_xml(raw)


@pytest.mark.parametrize("name", ["no-such-encoding", "utf-7", "utf-8 ", "idna", "base64", "big5"])
def test_an_unknown_encoding_is_refused(name: str) -> None:
    """The caller chooses the encoding's name, and the parser looks it up in Python."""
    raw = f'<?xml version="1.0" encoding="{name}"?><a>x</a>'.encode()
    try:
        assert parse_xml(raw).local_name == "a"
    except ValueError:
        return


def test_the_nesting_of_a_document_is_limited() -> None:
    assert parse_xml(b"<a>" * 512 + b"</a>" * 512).local_name == "a"
    with pytest.raises(ValueError, match="deep"):
        parse_xml(b"<a>" * 513 + b"</a>" * 513)
    with pytest.raises(ValueError, match="deep"):
        parse_xml(b"<a>" * 500_000)


@pytest.mark.hypothesis
@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), max_size=20))
def test_any_text_is_read_back(text: str) -> None:
    assert parse_xml(f"<a>{escape(text)}</a>".encode()).text == text


@pytest.mark.slow
@pytest.mark.hypothesis
@settings(deadline=None, max_examples=300)
@given(
    st.binary(max_size=40)
    | st.text(st.sampled_from('<>/a="?!-[]& ;x'), max_size=40).map(str.encode)
    | st.from_regex(rb'<\?xml version="1\.[0-9]" encoding="[a-z0-9_-]{1,8}"\?><a/>', fullmatch=True)
)
def test_any_bytes_are_xml_or_refused(raw: bytes) -> None:
    try:
        root = parse_xml(raw)
    except ValueError:
        return
    assert isinstance(root, Element)
    assert root.local_name


# Values by shape


def test_lists_structures_and_attributes_of_s3() -> None:
    raw = b"""<AccessControlPolicy xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
      <Owner><ID>me</ID></Owner>
      <AccessControlList><Grant>
        <Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser">
          <ID>you</ID></Grantee>
        <Permission>READ</Permission>
      </Grant></AccessControlList></AccessControlPolicy>"""
    assert decode("s3", "PutBucketAcl", "AccessControlPolicy", raw) == {
        "Owner": {"ID": "me"},
        "Grants": [{"Grantee": {"ID": "you", "Type": "CanonicalUser"}, "Permission": "READ"}],
    }


def test_flattened_lists_may_be_interleaved() -> None:
    raw = b"""<Delete><Quiet>true</Quiet><Object><Key>a</Key></Object>
      <Object><Key>b</Key><VersionId>3</VersionId></Object></Delete>"""
    assert decode("s3", "DeleteObjects", "Delete", raw) == {
        "Quiet": True,
        "Objects": [{"Key": "a"}, {"Key": "b", "VersionId": "3"}],
    }


def test_numbers_booleans_and_nested_lists_of_cloudfront() -> None:
    raw = b"""<InvalidationBatch><Paths><Quantity>2</Quantity>
      <Items><Path>/a</Path><Path>/b</Path></Items></Paths>
      <CallerReference>r</CallerReference></InvalidationBatch>"""
    assert decode("cloudfront", "CreateInvalidation", "InvalidationBatch", raw) == {
        "Paths": {"Quantity": 2, "Items": ["/a", "/b"]},
        "CallerReference": "r",
    }


def test_an_empty_element_is_an_empty_value() -> None:
    raw = b"<Tagging><TagSet/></Tagging>"
    assert decode("s3", "PutBucketTagging", "Tagging", raw) == {"TagSet": []}


def test_elements_outside_the_model_are_left_out() -> None:
    raw = b"<Tagging><TagSet/><Surprise>x</Surprise></Tagging>"
    assert decode("s3", "PutBucketTagging", "Tagging", raw) == {"TagSet": []}


def test_a_namespace_prefix_makes_no_difference() -> None:
    raw = b'<s:Tagging xmlns:s="u"><s:TagSet><s:Tag><s:Key>k</s:Key></s:Tag></s:TagSet></s:Tagging>'
    assert decode("s3", "PutBucketTagging", "Tagging", raw) == {"TagSet": [{"Key": "k"}]}


def test_map_in_an_answer_of_the_query_protocol() -> None:
    raw = b"""<GetTopicAttributesResult><Attributes>
      <entry><key>Owner</key><value>1</value></entry>
      <entry><key>Empty</key><value/></entry><entry><value>no key</value></entry>
      </Attributes></GetTopicAttributesResult>"""
    model = catalog().services["sns"].operation("GetTopicAttributes")
    assert model is not None
    decoded = xml_decoders("sns").decoder(model.output_shape)(parse_xml(raw))
    assert decoded == {"Attributes": {"Owner": "1", "Empty": ""}}
