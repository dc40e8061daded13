"""What headers say of the instrument and of the medium of wavelengths, whatever words they use."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from astropy.io import fits

from data_pipeline.spectrum import SpectrumError

_NOTHING = {"", "NA", "NONE", "NULL", "NAN", "UNKNOWN", "UNDEFINED", "TBD"}
# Words that stand beside the name of a disperser without saying more
_BESIDE = {"JWST", "NIRSPEC", "CLEAR", "MSA", "MOS", "FS", "IFU", "SLIT", "NRS", "R100"}
_ELEMENT = re.compile(
    r"(?<![a-z0-9])(g(?:140|235|395)[mh]|f(?:070|100|170|290)lp|p750l|gr150[rc]|gr700xd|grism[rc]|g102|g141|"
    r"g800l)(?![a-z0-9])"
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


def _cards(headers: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    """All cards but remarks: keyword in upper case with ``_`` for blanks, and value."""
    for header in headers:
        for key in header:
            name = re.sub(r"[ -]", "_", str(key).upper().strip())
            if name in ("COMMENT", "COMMENTS", "HISTORY", ""):
                continue
            try:
                yield name, header[key]
            except (fits.VerifyError, KeyError, ValueError):  # a damaged card is no card of these
                continue


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
    if not name:
        # whatever card or file name speaks of a grating, unless the prism is named beside it
        cards = [(key, text) for key, text in _cards(headers) if isinstance(text, str)]
        said = [text.lower() for key, text in cards if not key.startswith("TTYPE")]
        for text in (*said, Path(path).name.lower()):
            elements = sorted(_ELEMENT.findall(text), reverse=True)  # a grating before its filter
            if elements and "prism" not in text:
                return elements[0].upper()
    return name


_MEDIUM = (
    "AIRORVAC VACORAIR AIRVAC MEDIUM WAVEMED WAVE_MEDIUM WAVELENGTH_MEDIUM WAVELENGTH_TYPE WAVETYPE WAVEFRAME"
)
_AIR = "AIR INAIR IN_AIR AIRWAVE AIR_WAVELENGTHS AIRWAVES"
_REMARKS = "COMMENT COMMENTS HISTORY DESCRIPTION"
_VACUUM = "VACUUM VACWAVE VAC_WAVE IN_VACUUM INVACUUM VACUUM_WAVELENGTHS VAC"
_NO, _YES = ("FALSE", "F", "0", "NO", "N"), ("TRUE", "T", "1", "YES", "Y")
_AIR_KEY = re.compile(r"^(IS_?)?(IN_?)?AIR$|(WAV|LAM).*AIR|AIR.*(WAV|LAM)")
_AIR_WORDS = re.compile(r"^(IN |STANDARD |DRY )?AIR( WAVELENGTHS?)?$")
_NAMES = ("OBJECT", "TARGET", "TARGNAME", "NAME", "AUTHOR", "ORIGIN")
_FRAME_KEY = re.compile(r"(WAV|LAM|SPEC)\w*(FRA?ME?|SYS)$|^(REF_?)?FRAME$|^SPECSYS\d?$")
_REST_KEY = re.compile(r"^(IS_?|IN_?)*REST_?FRAME?$")
_REST_WORDS = re.compile(r"^(IN )?(THE )?REST([ _-]?FRAME)?$|^SOURCE$")
_IN_REMARKS = (
    r"WAVELENGTHS?(?: \w+){0,3} (?:IN )?AIR(?=[.,;)'\"]|$)",
    r"WAVELENGTHS?(?: \w+){0,3} IN (?:THE )?REST[ -]?FRAME",
)


def check_wavelengths(
    where: str,
    headers: Sequence[Mapping[str, Any]],
    axis: Sequence[Any] = (),
    of_archive: bool = False,
) -> None:
    """Refuses wavelengths in air, and those in the rest frame of the source.

    Asked are the keywords of SDSS and DESI (AIRORVAC), ESO (VACUUM), the FITS standard (CTYPE and TCTYP:
    AWAV; SPECSYS: SOURCE), the UCD of ESO products (em.wl;obs.atmos) and whatever words people write.

    Args:
        where: file and HDU, for the error text.
        headers: the particular before the general.
        axis: what is said of the wavelength column: its name, type, UCD, description.
        of_archive: the layout is one of an archive, which does not say it in words of its own: only the usual
            keywords are asked. To parse all cards takes half as long as to read a spectrum.

    Raises:
        SpectrumError: for air, and for rest wavelengths.
    """
    air = [text for text in _texts(headers, _MEDIUM) if re.search(r"\bAIR\b", text) and "VAC" not in text]
    air += [f"VACUUM = {text}" for text in _texts(headers, _VACUUM) if text in (*_NO, "AIR")]
    air += [f"AIR = {text}" for text in _texts(headers, _AIR) if text in _YES]
    air += [text for text in _texts(headers, "CTYPE1 CTYPE2 CTYPE3 CTYPE") if text.startswith("AWAV")]
    rest = [f"SPECSYS = {text}" for text in _texts(headers, "SPECSYS") if text == "SOURCE"]
    for key, value in () if of_archive else _cards(headers):
        text = str(value).strip().upper()
        if (_AIR_WORDS.search(text) and key not in _NAMES) or (_AIR_KEY.search(key) and text in _YES):
            air.append(f"{key} = {text}")
        if (_FRAME_KEY.search(key) and _REST_WORDS.search(text)) or (_REST_KEY.search(key) and text in _YES):
            rest.append(f"{key} = {text}")
    # a line of remarks each; one that speaks of vacuum tells of a conversion
    remarks = [str(row).strip().upper() for text in _texts(headers, _REMARKS) for row in text.splitlines()]
    remarks = [row for row in remarks if "VAC" not in row]
    for found, pattern in zip((air, rest), _IN_REMARKS, strict=True):
        found += [match[0] for row in remarks for match in re.finditer(pattern, row)]
    for text in (str(item).strip() for item in axis if item):
        if re.search(r"^AWAV|obs\.atmos|(^|[^a-z])air([^a-z]|$)", text, re.IGNORECASE):
            air += [text] if not re.search("vac", text, re.IGNORECASE) else []
        rest += [text] if re.search(r"(^|[^a-z])rest([ _-]?frame|[^a-z]|$)", text, re.IGNORECASE) else []
    if air:
        raise SpectrumError(
            f"{where}: wavelengths are in air, expected vacuum ({air[0]}); convert them first "
            "(specutils.utils.wcs_utils.air_to_vac) and write VACUUM = T."
        )
    if rest:
        raise SpectrumError(
            f"{where}: wavelengths are in the rest frame, expected as observed ({rest[0]}); multiply them by "
            "1 + z and divide flux densities per wavelength by it."
        )
