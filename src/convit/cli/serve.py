"""`convit serve`: models behind HTTP, with a page to try them on."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal

import typer

from convit.cli import errors, options
from convit.cli.job_options import Address
from convit.inference.options import DEFAULT_MODEL

Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="NAME|PATH",
        help="Model, weight set, weight file, run or exported folder; can be repeated, the first is the default."
        f"  [default: {DEFAULT_MODEL}]",
    ),
]
IndexDb = Annotated[Path | None, typer.Option("--index", metavar="DIR", help="Index to search, from convit index.")]
Host = Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on; 0.0.0.0: all networks.")]
Port = Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="Port to listen on; 0: any free one.")]
KeyFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="API keys, one per line; requests must then carry one of them."),
]
AllowHost = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Host name to answer to, besides localhost and IP addresses; can be repeated."),
]
AllowOrigin = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ORIGIN", help="Origin whose pages may call the service, such as https://example.org; can be repeated."
    ),
]
AllowUrlHost = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Host from which images may be fetched by https URL; can be repeated."),
]
RootPath = Annotated[str, typer.Option(metavar="PATH", help="Path under which a proxy serves it.")]
MaxBody = Annotated[int, typer.Option(min=1, metavar="MIB", help="Largest body of a request, MiB.")]
MaxImages = Annotated[int, typer.Option(min=1, metavar="N", help="Most images in one request.")]
Queue = Annotated[int, typer.Option(min=1, metavar="N", help="Images that may wait for a model; more get a 503.")]
Timeout = Annotated[
    float, typer.Option(min=1, metavar="S", help="Seconds to receive a request, and as many to answer it.")
]
Engine = Annotated[
    Literal["local", "ray"],
    typer.Option(help="What runs the models; ray: replicas on this machine or a cluster (extra 'ray-serve')."),
]
Replicas = Annotated[
    str,
    typer.Option(
        metavar="N|LEAST-MOST", help="Replicas with --engine ray; within a range, their number follows the load."
    ),
]


def serve(
    model: Models = None,
    index: IndexDb = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    api_key_file: KeyFile = None,
    allow_host: AllowHost = None,
    allow_origin: AllowOrigin = None,
    allow_url_host: AllowUrlHost = None,
    root_path: RootPath = "",
    max_body: MaxBody = 32,
    max_images: MaxImages = 64,
    queue: Queue = 256,
    timeout: Timeout = 30,
    engine: Engine = "local",
    replicas: Replicas = "1",
    address: Address = None,
    run: options.ServeRun = options.DEFAULTS,
) -> None:
    """Serve models over HTTP, with a web page for trying them out.

    Listens on this machine only, unless --host says otherwise. SIGTERM and Ctrl-C let accepted requests finish.
    """
    from convit.output.files import check_packages

    check_packages("a service", "fastapi", "uvicorn", "multipart", "prometheus_client", "jinja2", extra="serve")
    from convit.serving.options import ServiceOptions, ServiceSetup, is_loopback, parse_replicas, read_keys

    settings = ServiceOptions(
        keys=() if api_key_file is None else read_keys(api_key_file),
        hosts=(host, *(allow_host or ())),
        origins=tuple(allow_origin or ()),
        url_hosts=tuple(allow_url_host or ()),
        root_path=root_path,
        body_bytes=max_body * 2**20,
        images=max_images,
        queue=queue,
        seconds=timeout,
    )
    if not settings.keys and not is_loopback(host):
        errors.tell(f"warning: anyone who can reach {host} can use this service; set --api-key-file")
    names = tuple(model or (DEFAULT_MODEL,))
    setup = ServiceSetup(models=names, index=index, service=settings, run=run, replicas=parse_replicas(replicas))
    if engine == "ray":
        check_packages("--engine ray", "ray", "grpc_reflection", extra="ray-serve")
    elif address or setup.replicas != (1, 1):
        raise ValueError("--replicas and --address are for replicas on Ray; add --engine ray")
    from convit.serving.server import bind, log_as_json, run_server

    with ExitStack() as stack:
        bound = stack.enter_context(bind(host, port))
        stack.enter_context(log_as_json())
        errors.say(f"loading {', '.join(names)} …")
        if engine == "ray":
            from convit.serving.replicas import replicated

            app = stack.enter_context(replicated(setup, address=address))
        else:
            from convit.serving.app import load_app

            app = load_app(setup)
        shown = f"http://{f'[{host}]' if ':' in host else host}:{bound.getsockname()[1]}{root_path}/"
        try:
            run_server(app, bound, settings, lambda: errors.tell(f"listening on {shown}"))
        except (errors.Terminated, KeyboardInterrupt):
            errors.say("stopped")
