"""Packaging of the open on-prem agent, its gateway and the wire between them."""

from pathlib import Path

from setuptools import find_namespace_packages, setup

HERE = Path(__file__).parent

# Lower bounds are the versions the test suite runs against.
TUNNEL = [
    "attrs>=24.2",
    "autobahn>=26.10",
    "cryptography>=44",
    "msgspec>=0.20",
    "pyopenssl>=26.0",
    "service-identity>=24.2",
    "twisted[tls]>=26.10",
    # Twisted's own need on Windows, and that of etc/windows.
    'pywin32>=306; sys_platform == "win32"',
    # Only its C function for WebSocket masks: Autobahn's own costs ten times as much.
    "websockets>=15.0",
    "zope.interface>=7.0",
]
AGENT = [
    "httptools>=0.7",
    "prometheus-client>=0.22",
    "psycopg2-binary>=2.9.10",
    "pydantic>=2.11",
    "pymysql>=1.2",
    "pyodbc>=5.2",
    "pyyaml>=6.0.2",
    "sqlglot>=30",
    "treq>=25.5",
    "txpostgres>=1.7",
]
# What not every agent needs, by the name of what needs it.
EXTRAS = {
    # Built from source: needs a C compiler and Python's headers.
    "amqp": ["python-qpid-proton>=0.40"],
    "arrow": ["pyarrow>=20"],
    "aws": ["botocore>=1.35"],
    "jdbc": ["jpype1>=1.6"],
    "jms": ["jpype1>=1.6"],
    "kafka": ["confluent-kafka>=2.6"],
    "ldap": ["ldaptor>=21.2"],
    "ntlm": ["pyspnego>=0.11"],
    "oracle": ["oracledb>=3.1"],
}
TEST = [
    *(package for packages in EXTRAS.values() for package in packages),
    "asyncssh>=2.20",
    "coverage>=7.6",
    # moto's server needs these two.
    "flask>=3.0",
    "flask-cors>=4.0",
    "hypothesis>=6.130",
    "jsonschema>=4.23",
    "import-linter>=2.3",
    "moto>=5.1",
    "mypy>=1.18",
    "mypy-zope>=1.0.14",
    "openapi-spec-validator>=0.9",
    "ruff>=0.13",
    # Makes the completions of the Debian packages.
    "shtab>=1.7",
    "types-PyYAML",
]

setup(
    name="workato-agent",
    version="0.1.0",
    description="Open, self-hosted on-prem agent and the gateway it dials",
    long_description=(HERE / "README.md").read_text(encoding="utf-8")
    if (HERE / "README.md").exists()
    else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    # twisted.plugins is Twisted's own package: its folder here must hold no __init__.py.
    packages=[
        *find_namespace_packages(include=["workato_*"]),
        "twisted.plugins",
    ],
    package_data={
        "workato_gateway.api": ["openapi.yml"],
        "workato_gateway.storage": ["schema/*.sql"],
        "": ["py.typed"],
    },
    install_requires=[*TUNNEL, *AGENT],
    extras_require={**EXTRAS, "test": TEST},
    entry_points={
        "console_scripts": [
            "workato-agent = workato_agent.cli.main:main",
            "workato-gateway = workato_gateway.cli.main:main",
            "onprem = workato_client.cli:main",
        ]
    },
)
