# SPDX-License-Identifier: Apache-2.0
"""Eastron SDM energy meters over Modbus RTU, on a serial line or in TCP; the only place that imports `pymodbus`.

    sdm630:/dev/ttyUSB1,baud=9600,bits=8N1,unit=1        sdm120:tcp://10.0.0.9:8899 (RTU frames, as serial servers do)
    sdm120:modbus-tcp://10.0.0.9 (Modbus TCP, as gateways do)

Every version of pymodbus from 3.10 is spoken to through this file alone: its names change between minor releases (the
unit was `slave`, then `device_id`). Options: baud, bits, unit, period (s), timeout (s).
"""

from __future__ import annotations

import logging
import math
from typing import Any

from powersample import errors
from powersample.formats.sdm import ACCURACY, FLOAT_REGISTERS, MODELS, watts
from powersample.meters.connect import bounded
from powersample.meters.contract import MeterInfo, power_channel
from powersample.meters.polled import Polled
from powersample.meters.registry import Address
from powersample.meters.transport import host_of, port_trouble

REQUEST_BYTES, REPLY_BYTES = 8, 9  # of one float: unit, function, ... , checksum
BITS_A_BYTE = 11  # 8E1; 8N1 has one less
QUIET = logging.NullHandler()  # one: a logger takes the same handler once
REFRESH_S = 0.5  # how often such meters compute, about; not in their data sheets
LOOK_UP_S = 3.0  # more than the timeout, in which the look-up of a name has no part


def make(address: Address) -> Polled:
    """Return the driver of an SDM meter; nothing is opened.

    Raises:
        InvalidArgument: An option that it does not have, or no port.
        ModuleNotFoundError: pymodbus is not installed.
    """
    address.refuse_unknown(("baud", "bits", "unit", "period", "timeout"))
    if not address.where:
        raise errors.InvalidArgument(f"meter {address} names no port; write {address.kind}:/dev/ttyUSB0")
    return Polled(SdmMeter(address), address.number("period", 1.0))


class SdmMeter:
    """An `Instrument` behind a Modbus client."""

    def __init__(self, address: Address) -> None:
        import pymodbus.client

        logging.getLogger("pymodbus").addHandler(QUIET)  # else what it logs of each timeout is printed
        self._pymodbus = pymodbus
        self._address, self._model = address, MODELS[address.kind]
        self._baud, self._unit = int(address.number("baud", 9600)), int(address.number("unit", 1))
        self._bits = address.options.get("bits", self._model.bits)
        self._timeout_s = address.number("timeout", 0.5)
        if self._bits not in ("8N1", "8N2", "8E1", "8O1"):
            raise errors.InvalidArgument(f"meter {address}: bits={self._bits}; it has 8N1, 8N2, 8E1 and 8O1")
        self._client: Any = None

    def connect(self) -> MeterInfo:
        """See `Instrument`."""
        client, wire_s = self._made()
        self._client = client
        limit_s = self._timeout_s + LOOK_UP_S
        try:
            connected = bounded(client.connect, limit_s, lambda _: client.close())
        except TimeoutError as error:
            self._client = None
            raise errors.Timeout(
                f"meter {self._address} could not be reached within {limit_s:g} s",
                "Check address and name server, cable and firewall.",
            ) from error
        except (OSError, ValueError) as error:
            raise port_trouble(self._address.where, self._baud, error) from error
        if not connected:
            self.disconnect()
            raise self._unreachable()
        return MeterInfo(
            name=self._address.name,
            kind=self._address.kind,
            address=str(self._address),
            maker="Eastron",
            model=self._model.what,
            serial="",
            firmware="",
            channels=(power_channel(self._address.name, f"{self._address.kind}.P", span="none"),),
            cycle_s=math.nan,
            latency_s=wire_s,
            latency_class="a refresh of the meter old (about 0.5 s, not declared), and the time of one question",
            latency_max_s=None,
            accuracy=ACCURACY,
            simulated=self._address.simulated,
            settings={"unit": self._unit, "register": self._model.power, "refresh_s": REFRESH_S},
            notes=("the register is computed by the meter at a pace of its own: readings are taken for instants",),
        )

    def ask(self) -> tuple[float]:
        """See `Instrument`."""
        if self._client is None:
            raise errors.DeviceError(f"meter {self._address} is not connected")
        try:
            answer = self._client.read_input_registers(self._model.power, count=FLOAT_REGISTERS, device_id=self._unit)
        except self._pymodbus.exceptions.ConnectionException as error:
            raise errors.DeviceError(f"meter {self._address}: {error}") from error
        except self._pymodbus.exceptions.ModbusIOException as error:
            raise errors.Timeout(
                f"meter {self._address}: no answer of unit {self._unit} within {self._timeout_s:g} s",
                f"Check unit, baud ({self._baud}) and framing ({self._bits}): many ship with 8E1.",
            ) from error
        except (self._pymodbus.exceptions.ModbusException, ValueError, IndexError) as error:
            raise errors.BadFormat(f"meter {self._address}: {error}") from error
        except OSError as error:
            raise errors.DeviceError(f"meter {self._address}: {error}") from error
        if answer.isError():
            code = getattr(answer, "exception_code", None)
            raise errors.NotSupported(
                f"meter {self._address}: exception code {code} for register 0x{self._model.power:04X}",
                "Is it another model? Codes 1 and 2: it has no such function or register.",
                code=code,
            )
        return (watts(answer.registers),)

    def disconnect(self) -> None:
        """See `Instrument`."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _made(self) -> tuple[Any, float]:
        """Return a client, and how long a question and its answer are on the wire, s."""
        where, rtu = self._address.where, self._pymodbus.FramerType.RTU
        # One attempt: the next period is the next, and a stamp must not be that of an earlier question.
        common: dict[str, Any] = {"timeout": self._timeout_s, "retries": 0}
        if "://" in where:
            scheme, default = ("modbus-tcp", 502) if where.startswith("modbus-tcp") else ("tcp", 502)
            host, port = host_of(where, scheme, default)
            framer = rtu if scheme == "tcp" else self._pymodbus.FramerType.SOCKET
            return self._pymodbus.client.ModbusTcpClient(host, port=port, framer=framer, **common), 0.0
        bits = {"bytesize": int(self._bits[0]), "parity": self._bits[1], "stopbits": int(self._bits[2])}
        client = self._pymodbus.client.ModbusSerialClient(where, framer=rtu, baudrate=self._baud, **bits, **common)
        return client, REPLY_BYTES * BITS_A_BYTE / self._baud

    def _unreachable(self) -> errors.PowerSampleError:
        where = self._address.where
        if "://" in where:
            return errors.DeviceNotFound(f"meter {self._address} cannot be reached", "Check address and port.")
        try:
            with open(where, "rb+", buffering=0):
                pass
        except OSError as error:
            return port_trouble(where, self._baud, error)
        return errors.DeviceError(f"{where} cannot be opened", "Is it in use by another program?")
