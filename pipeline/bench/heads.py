"""Rates of what makes a head of a face, on one core."""

from pathlib import Path

from pipeline.bench.timing import Rate, measure, one_core
from pipeline.details.config import DetailsConfig
from pipeline.details.displace import displace
from pipeline.details.export import head_mesh
from pipeline.details.head import HeadMaps
from pipeline.details.kit import head_kit
from pipeline.details.person import compared
from pipeline.details.pictures import encode_maps
from pipeline.details.reconstruct import finish_heads, look_at, make_maps, pose, show_face
from pipeline.errors import InputError
from pipeline.faces.detect import DetectConfig, FaceFinder
from pipeline.fitting.fit import fit_views
from pipeline.geometry.head_model import FACE_VERTICES
from pipeline.geometry.mesh_files.glb import write_glb
from pipeline.images.decode import DecodeConfig, decode_image


def measure_heads(photo: Path, rounds: int = 3) -> list[Rate]:
    """Times fit, displacement, maps, their encoding and the GLB of the largest face of a photo.

    Raises:
        InputError: There is no face in it.
    """
    config = DetailsConfig()
    kit = head_kit(level=config.level)
    image = decode_image(photo.read_bytes(), DecodeConfig())
    with one_core():
        faces = FaceFinder(DetectConfig(faces="largest"))(image)
        if not faces:
            raise InputError(f"There is no face in {photo} to make a head of.")
        seen = look_at(image, faces[0], kit, config)
        fit = fit_views([seen.view], kit.head, config.fit)
        state, normals = fit.views[0], seen.view.normals
        assert normals is not None
        vertices = kit.vertices(fit.identity, state.expression)
        face = state.to_camera(vertices[:FACE_VERTICES])
        displacement = displace(face, state, normals, kit.grid, config.displace)
        (head,) = finish_heads([seen], fit, kit, config)
        pictures = encode_maps(head.maps)

        def maps(_: int) -> HeadMaps:
            posed = pose(seen, state, vertices, kit)
            return make_maps(posed, displacement, kit, [show_face(posed, kit, config.texture_size)])

        steps = {
            "fit": lambda _: fit_views([seen.view], kit.head, config.fit),
            # The same photo twice costs what two photos of a person do.
            "fit of a pair": lambda _: fit_views([compared(seen)] * 2, kit.head, config.fit),
            "displacement": lambda _: displace(face, state, normals, kit.grid, config.displace),
            "maps": maps,
            "maps as PNG and JPEG": lambda _: encode_maps(head.maps),
            "GLB": lambda _: write_glb(head_mesh(head, pictures)),
        }
        return [measure(name, step, [0], rounds=rounds, unit="heads")[0] for name, step in steps.items()]
