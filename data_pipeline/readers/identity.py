"""What headers say of the instrument and of the medium of wavelengths, whatever words they use."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from astropy.io import fits

from data_pipeline.spectrum import SpectrumError

_NOTHING = {"", "NA", "NONE", "NULL", "NAN", "UNKNOWN", "UNDEFINED", "TBD"}
# Words that stand beside the name of a disperser without saying more
_BESIDE = {"JWST", "NIRSPEC", "CLEAR", "MSA", "MOS", "FS", "IFU", "SLIT", "NRS", "R100"}
_FILE_NAME = re.compile(
    r"(?<![a-z0-9])(g(?:140|235|395)[mh]|p750l|gr150[rc]|gr700xd|grism[rc]|g102|g141|g800l)(?![a-z0-9])"
)


def disperser_name(text: str) -> str:
    """A disperser as its name alone: ``PRISM`` of ``CLEAR;PRISM``, ``G395M`` of ``NIRSpec G395M``.

    Empty for what says nothing, such as ``N/A``.
    """
    text = text.strip().upper()
    if re.sub(r"[^A-Z0-9]", "", text) in _NOTHING:
        return ""
    words = re.findall(r"[A-Z0-9.+]+", text)
    if any(word in ("PRISM", "R100", "CLEARPRISM", "PRISMCLEAR") for word in words):
        words = ["PRISM", *(w for w in words if w not in ("PRISM", "CLEARPRISM", "PRISMCLEAR"))]
    others = [word for word in words if word not in _BESIDE]
    return others[0] if len(others) == 1 else text if others else ""


def _texts(headers: Sequence[Mapping[str, Any]], keys: str) -> list[str]:
    """What the headers say under these keywords, upper case, without blanks and words for nothing."""
    found = (header.get(key) for header in headers for key in keys.split())
    texts = (str(value).strip().upper() for value in found if not isinstance(value, fits.card.Undefined))
    return [text for text in texts if re.sub(r"[^A-Z0-9]", "", text) not in _NOTHING]


def disperser_of(stated: str, headers: Sequence[Mapping[str, Any]], path: str = "") -> str:
    """Name of the disperser; that of the instrument, where headers say that it was not NIRSpec's prism.

    Args:
        stated: what the file states as its disperser.
        headers: all headers that may say something of the instrument.
        path: file, whose name is looked at where nothing else says anything.

    Returns:
        Upper case; ``PRISM`` for NIRSpec's prism; empty where nothing is said.
    """
    name = disperser_name(stated)
    if not name:
        keys = "GRATING DISPERSER DISPERSE DISPERSR GRISM GWA_POS OPT_ELEM GRATNAME GRISNAME"
        name = next(filter(None, map(disperser_name, _texts(headers, keys))), "")
    if name not in ("", "PRISM"):
        return name
    telescope = _texts(headers, "TELESCOP TELESCOPE OBSERVATORY FACILITY")
    instrument = _texts(headers, "INSTRUME INSTRUMENT INSTR")
    elsewhere = [text for text in telescope if not re.search(r"JWST|WEBB", text)]
    other = [text for text in instrument if "NIRSPEC" not in re.sub(r"[^A-Z]", "", text)]
    other += [text for text in _texts(headers, "EXP_TYPE DETECTOR") if not text.startswith("NRS")]
    pupil = [text for text in _texts(headers, "PUPIL") if text != "CLEAR"]
    element = [
        text for text in _texts(headers, "FILTER FWA_POS") if disperser_name(text) not in ("", "PRISM")
    ]
    if elsewhere or other or pupil or (element and not name):
        return " ".join(dict.fromkeys([*elsewhere, *(instrument or other), *element, *pupil]))
    in_name = _FILE_NAME.search(Path(path).name.lower())
    if not name and in_name and "prism" not in Path(path).name.lower():
        return in_name[1].upper()
    return name


_MEDIUM = (
    "AIRORVAC VACORAIR AIRVAC MEDIUM WAVEMED WAVE_MEDIUM WAVELENGTH_MEDIUM WAVELENGTH_TYPE WAVETYPE WAVEFRAME"
)
_VACUUM = "VACUUM VACWAVE VAC_WAVE IN_VACUUM INVACUUM VACUUM_WAVELENGTHS"
_AIR = "AIR INAIR IN_AIR AIRWAVE AIR_WAVELENGTHS AIRWAVES"
_NO, _YES = ("FALSE", "F", "0", "NO", "N"), ("TRUE", "T", "1", "YES", "Y")


def check_vacuum(where: str, headers: Sequence[Mapping[str, Any]], axis: Sequence[Any] = ()) -> None:
    """Refuses wavelengths in air.

    Asked are the keywords of SDSS and DESI (AIRORVAC), ESO (VACUUM), the FITS standard (CTYPE and TCTYP:
    AWAV), the UCD of ESO products (em.wl;obs.atmos) and the words that people write into metadata.

    Args:
        where: file and HDU, for the error text.
        headers: the particular before the general.
        axis: what is said of the wavelength column: its name, type, UCD, description.

    Raises:
        SpectrumError: for air.
    """
    says = [text for text in _texts(headers, _MEDIUM) if re.search(r"\bAIR\b", text) and "VAC" not in text]
    says += [f"VACUUM = {text}" for text in _texts(headers, _VACUUM) if text in (*_NO, "AIR")]
    says += [f"AIR = {text}" for text in _texts(headers, _AIR) if text in _YES]
    says += [text for text in _texts(headers, "CTYPE1 CTYPE2 CTYPE3 CTYPE") if text.startswith("AWAV")]
    remarks = " ".join(_texts(headers, "COMMENT COMMENTS HISTORY DESCRIPTION"))
    says += re.findall(r"WAVELENGTHS? (?:ARE |IS )?(?:GIVEN |MEASURED )?IN AIR\b", remarks)
    for text in (str(item).strip() for item in axis if item):
        air = re.search(r"^AWAV|obs\.atmos|(^|[^a-z])air([^a-z]|$)", text, re.IGNORECASE)
        says += [text] if air and not re.search("vac", text, re.IGNORECASE) else []
    if says:
        raise SpectrumError(
            f"{where}: wavelengths are in air, expected vacuum ({says[0]}); convert them first "
            "(specutils.utils.wcs_utils.air_to_vac) and write VACUUM = T."
        )
