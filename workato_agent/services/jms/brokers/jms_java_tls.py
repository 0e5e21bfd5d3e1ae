"""A profile's TLS options for Java: certificates from PEM, without key store files."""

from __future__ import annotations

from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    load_pem_private_key,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates

from workato_tunnel.problems import Problem

from ...handshakes import TlsSettings

_IN_MEMORY: Final = "in-memory"


def thd_trust_managers(jpype: Any, tls: TlsSettings) -> Any:
    """``TrustManager[]``; None for what Java trusts by itself."""
    if tls.trust_all:
        return jpype.JArray(jpype.JClass("javax.net.ssl.TrustManager"))([_trusting(jpype)])
    if tls.ca is None:
        return None
    store = _key_store(jpype)
    certificates = jpype.JClass("java.security.cert.CertificateFactory").getInstance("X.509")
    stream = jpype.JClass("java.io.ByteArrayInputStream")(tls.ca)
    for number, certificate in enumerate(certificates.generateCertificates(stream)):
        store.setCertificateEntry(str(number), certificate)
    factory = jpype.JClass("javax.net.ssl.TrustManagerFactory")
    trust = factory.getInstance(factory.getDefaultAlgorithm())
    trust.init(store)
    return trust.getTrustManagers()


def thd_key_managers(jpype: Any, tls: TlsSettings) -> Any:
    """``KeyManager[]`` with the profile's certificate; None without one."""
    if tls.certificate is None:
        return None
    store = _key_store(jpype, _pkcs12(tls))
    factory = jpype.JClass("javax.net.ssl.KeyManagerFactory")
    keys = factory.getInstance(factory.getDefaultAlgorithm())
    keys.init(store, jpype.JString(_IN_MEMORY).toCharArray())
    return keys.getKeyManagers()


def _pkcs12(tls: TlsSettings) -> bytes:
    assert tls.certificate is not None  # noqa: S101 - the caller has looked
    password = tls.certificate.password
    try:
        chain = x509.load_pem_x509_certificates(tls.certificate.chain)
        key: Any = load_pem_private_key(
            tls.certificate.key, None if password is None else password.encode()
        )
    except (TypeError, ValueError) as error:
        raise Problem(
            "target_tls_failed",
            f"the profile's client certificate can't be read: {error}",
            hint="expected a certificate and its key in PEM form",
        ) from None
    return serialize_key_and_certificates(
        b"client", key, chain[0], chain[1:], BestAvailableEncryption(_IN_MEMORY.encode())
    )


def _key_store(jpype: Any, content: bytes | None = None) -> Any:
    store = jpype.JClass("java.security.KeyStore").getInstance("PKCS12")
    stream = None
    if content is not None:
        stream = jpype.JClass("java.io.ByteArrayInputStream")(content)
    store.load(stream, jpype.JString(_IN_MEMORY).toCharArray())
    return store


def _trusting(jpype: Any) -> Any:
    """A trust manager that accepts every certificate.

    All of its methods return the same empty array, which is an answer to ``getAcceptedIssuers`` and
    ignored of the others. It calls nothing of Python.
    """
    handles = jpype.JClass("java.lang.invoke.MethodHandles")
    anything = jpype.JClass("java.lang.Object").class_
    nobody = jpype.JArray(jpype.JClass("java.security.cert.X509Certificate"))(0)
    constant = handles.constant(anything, nobody)
    arguments = jpype.JArray(jpype.JClass("java.lang.Class"))(
        [anything, jpype.JClass("java.lang.reflect.Method").class_,
         jpype.JArray(jpype.JObject).class_]
    )  # fmt: skip
    handle = handles.dropArguments(constant, 0, arguments)
    proxies = jpype.JClass("java.lang.invoke.MethodHandleProxies")
    invoked = proxies.asInterfaceInstance(
        jpype.JClass("java.lang.reflect.InvocationHandler").class_, handle
    )
    manager = jpype.JClass("javax.net.ssl.X509TrustManager").class_
    return jpype.JClass("java.lang.reflect.Proxy").newProxyInstance(
        manager.getClassLoader() or jpype.JClass("java.lang.ClassLoader").getPlatformClassLoader(),
        jpype.JArray(jpype.JClass("java.lang.Class"))([manager]),
        invoked,
    )
