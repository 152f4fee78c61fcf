"""The peaks of the keypoint head's heat maps as nodes of ONNX: `ops.keypoints.peaks`, line by line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from maskrcnn.ops.keypoints import CUBIC, FIRST_LOOK, PAD, PEAKS, TAPS

LOW = -3e38
"""Lower than any value of a heat map."""


def peaks_of(op: Any) -> Callable[..., tuple[Any, Any]]:
    """What builds the nodes with `op`, an opset of onnxscript."""

    def peaks(maps: Any, boxes: Any, longest: Any) -> tuple[Any, Any]:
        """`longest` is not read: how far the close look reaches is asked of the boxes."""
        return _Peaks(op, int(maps.shape[2])).of(maps, boxes)

    return peaks


@dataclass(frozen=True)
class _Peaks:
    """Builds the nodes for heat maps of `side` cells a side. R boxes, K keypoints, T peaks that are looked at."""

    op: Any
    side: int

    def of(self, maps: Any, boxes: Any) -> tuple[Any, Any]:
        """maps (R, K, S, S), boxes (R, 4) -> places (R, K, 2) and values (R, K)."""
        op = self.op
        start, end = (op.Slice(boxes, self.ints(i), self.ints(i + 2), self.ints(1)) for i in (0, 2))
        sides = op.Max(op.Sub(end, start), self.number(1))
        counts = op.Ceil(sides)  # (R, 2)
        padded = op.Pad(maps, self.ints(0, 0, PAD, PAD, 0, 0, PAD, PAD), mode="edge")
        # Whole, and the same for all boxes
        reach = op.Ceil(op.Div(op.ReduceMax(counts, keepdims=0), self.number(self.points)))
        offset = op.Range(op.Neg(reach), op.Add(reach, self.number(1)), self.number(1))  # (N,)
        x, y = self.first_look(padded, counts)
        weight_x, column, good_x = self.close_look(x, self.axis(counts, 0), offset)
        weight_y, row, good_y = self.close_look(y, self.axis(counts, 1), offset)
        values = self.product(weight_y, self.patches(padded, row, column), weight_x, dims=5)  # (R, K, T, N, N)
        good = op.And(op.Unsqueeze(good_y, self.ints(4)), op.Unsqueeze(good_x, self.ints(3)))
        values = op.Reshape(op.Where(good, values, self.number(LOW)), self.ints(0, 0, -1))
        best, index = op.ReduceMax(values, self.ints(2), keepdims=0), op.ArgMax(values, axis=2)  # (R, K, 1)

        length = op.Shape(offset)
        square = op.Mul(length, length)
        block = op.Div(index, square)
        inside = op.Sub(index, op.Mul(block, square))
        line = op.Div(inside, length)
        steps = (op.Sub(inside, op.Mul(line, length)), line)
        cells = [
            op.Add(op.GatherElements(cell, block, axis=2), op.Sub(op.Cast(step, to=1), reach))
            for cell, step in zip((x, y), steps, strict=True)
        ]
        middle = op.Add(op.Concat(*cells, axis=2), self.number(0.5))  # (R, K, 2)
        scale, start = (op.Unsqueeze(value, self.ints(1)) for value in (op.Div(sides, counts), start))
        return op.Add(op.Mul(middle, scale), start), best

    def first_look(self, padded: Any, counts: Any) -> tuple[Any, Any]:
        """Cells x and y of the enlarged map, each (R, K, T) float, near the highest peaks of a few points."""
        op, points = self.op, self.points
        count = op.Unsqueeze(counts, self.ints(2))  # (R, 2, 1)
        cell, there = self.cell_of(op.Constant(value_floats=[float(i) for i in range(points)]), count)
        taps = op.Constant(value_floats=[float(i - PAD) for i in range(self.side + 2 * PAD)])
        weight = self.cubic(op.Sub(op.Unsqueeze(self.position(cell, count), self.ints(3)), taps))  # (R, 2, P, S + 8)
        of_x, of_y = (op.Gather(weight, self.ints(i), axis=1) for i in (0, 1))
        there_x, there_y = (op.Gather(there, self.ints(i), axis=1) for i in (0, 1))
        there = op.And(op.Unsqueeze(there_y, self.ints(3)), op.Unsqueeze(there_x, self.ints(2)))
        values = op.Where(there, self.product(of_y, padded, of_x, dims=4), self.number(LOW))  # (R, K, P, P)
        highest, _ = op.MaxPool(values, kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
        tops = op.Where(op.Equal(values, highest), values, self.number(LOW))
        _, index = op.TopK(op.Reshape(tops, self.ints(0, 0, -1)), self.ints(PEAKS), axis=2)
        row = op.Div(index, self.ints(points))
        column = op.Sub(index, op.Mul(row, self.ints(points)))
        x, y = (self.cell_of(op.Cast(point, to=1), self.axis(counts, i))[0] for i, point in enumerate((column, row)))
        return x, y

    def cell_of(self, point: Any, count: Any) -> tuple[Any, Any]:
        """The cells of the enlarged map that the first look's points lie in; whether there are such."""
        op, points = self.op, self.number(self.points)
        spread = op.Floor(op.Mul(op.Add(point, self.number(0.5)), op.Div(count, points)))
        cell = op.Where(op.LessOrEqual(count, points), point, spread)
        return op.Min(cell, op.Sub(count, self.number(1))), op.Less(cell, count)

    def close_look(self, cell: Any, count: Any, offset: Any) -> tuple[Any, Any, Any]:
        """Of cells (R, K, T) and (R, 1, 1) cells in all: weights (R, K, T, N, TAPS) of the cells around, the first that
        they read, and which of these there are to look at (R, K, T, N)."""
        op = self.op
        far = op.Ceil(op.Div(count, self.number(self.points)))
        far = op.Where(op.Less(op.Mul(count, self.number(2)), self.number(self.side)), self.number(0), far)
        far, counts = (op.Unsqueeze(value, self.ints(3)) for value in (far, count))
        cells = op.Add(op.Unsqueeze(cell, self.ints(3)), offset)
        there = op.And(op.GreaterOrEqual(cells, self.number(0)), op.Less(cells, counts))
        good = op.And(there, op.LessOrEqual(op.Abs(offset), far))
        first = op.Sub(op.Floor(self.position(cell, count)), self.number(3))
        distance = op.Sub(self.position(cells, counts), op.Unsqueeze(first, self.ints(3)))
        taps = op.Constant(value_floats=[float(i) for i in range(TAPS)])
        weight = self.cubic(op.Sub(op.Unsqueeze(distance, self.ints(4)), taps))
        return weight, op.Add(op.Cast(first, to=7), self.ints(PAD)), good

    def patches(self, padded: Any, row: Any, column: Any) -> Any:
        """The cells that a close look reads: (R, K, T, TAPS, TAPS)."""
        op, width = self.op, self.side + 2 * PAD
        steps = [i * width + j for i in range(TAPS) for j in range(TAPS)]
        start = op.Add(op.Mul(row, self.ints(width)), column)
        index = op.Reshape(op.Add(op.Unsqueeze(start, self.ints(3)), self.ints(*steps)), self.ints(0, 0, -1))
        found = op.GatherElements(op.Reshape(padded, self.ints(0, 0, -1)), index, axis=2)
        return op.Reshape(found, self.ints(0, 0, -1, TAPS, TAPS))

    def product(self, rows: Any, values: Any, columns: Any, dims: int) -> Any:
        """rows @ values @ columns transposed, of so many dimensions."""
        order = [*range(dims - 2), dims - 1, dims - 2]
        return self.op.MatMul(self.op.MatMul(rows, values), self.op.Transpose(columns, perm=order))

    def position(self, cell: Any, count: Any) -> Any:
        """Where cells of the enlarged map lie in the small one."""
        op = self.op
        scaled = op.Mul(op.Div(self.number(self.side), count), op.Add(cell, self.number(0.5)))
        return op.Sub(scaled, self.number(0.5))

    def cubic(self, distance: Any) -> Any:
        """`ops.keypoints.cubic`."""
        op, a = self.op, CUBIC
        d = op.Abs(distance)

        def polynomial(*factors: float) -> Any:
            """Highest power first."""
            value = self.number(factors[0])
            for factor in factors[1:]:
                value = op.Add(op.Mul(value, d), self.number(factor))
            return value

        far = op.Where(op.Less(d, self.number(2)), polynomial(a, -5 * a, 8 * a, -4 * a), self.number(0))
        return op.Where(op.LessOrEqual(d, self.number(1)), polynomial(a + 2, -(a + 3), 0, 1), far)

    def axis(self, counts: Any, axis: int) -> Any:
        """(R, 2) -> (R, 1, 1)."""
        return self.op.Unsqueeze(self.op.Gather(counts, self.ints(axis), axis=1), self.ints(2))

    @property
    def points(self) -> int:
        """Of the first look, along an axis."""
        return FIRST_LOOK * self.side

    def ints(self, *values: int) -> Any:
        return self.op.Constant(value_ints=list(values))

    def number(self, value: float) -> Any:
        return self.op.Constant(value_float=float(value))
