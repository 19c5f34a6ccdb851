"""Device functions that kernels share: heads as four quarters. Only imported with Triton."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def split_quarters(x, ROWS: tl.constexpr, G: tl.constexpr):
    """Return the quarters (ROWS, G) of heads (ROWS, 4 G)."""
    low, high = tl.split(tl.permute(tl.reshape(x, (ROWS, 2, 2, G)), (0, 3, 2, 1)))  # each (ROWS, G, 2)
    a, b = tl.split(low)
    c, d = tl.split(high)
    return a, b, c, d


@triton.jit
def join_quarters(a, b, c, d, ROWS: tl.constexpr, G: tl.constexpr):
    """Return heads (ROWS, 4 G) of their quarters (ROWS, G)."""
    both = tl.join(tl.join(a, b), tl.join(c, d))  # (ROWS, G, 2 in a half, 2 halves)
    return tl.reshape(tl.permute(both, (0, 3, 2, 1)), (ROWS, 4 * G))


@triton.jit
def load_quarters(p_x, o_row, m_row, o_g, G: tl.constexpr):
    """Load heads that start at p_x + o_row as float32 quarters (ROWS, G)."""
    p_a = p_x + o_row[:, None] + o_g[None, :]
    m_a = m_row[:, None]
    a = tl.load(p_a, mask=m_a, other=0.0).to(tl.float32)
    b = tl.load(p_a + G, mask=m_a, other=0.0).to(tl.float32)
    c = tl.load(p_a + 2 * G, mask=m_a, other=0.0).to(tl.float32)
    d = tl.load(p_a + 3 * G, mask=m_a, other=0.0).to(tl.float32)
    return a, b, c, d


@triton.jit
def store_quarters(p_x, a, b, c, d, o_row, m_row, o_g, G: tl.constexpr):
    """Store quarters (ROWS, G) to heads that start at p_x + o_row."""
    p_a = p_x + o_row[:, None] + o_g[None, :]
    m_a = m_row[:, None]
    tl.store(p_a, a.to(p_x.dtype.element_ty), mask=m_a)
    tl.store(p_a + G, b.to(p_x.dtype.element_ty), mask=m_a)
    tl.store(p_a + 2 * G, c.to(p_x.dtype.element_ty), mask=m_a)
    tl.store(p_a + 3 * G, d.to(p_x.dtype.element_ty), mask=m_a)


@triton.jit
def turn_quarters(a, b, c, d, c0, s0, c1, s1):
    """Rotate the pairs (a, b) and (c, d)."""
    return a * c0 - b * s0, b * c0 + a * s0, c * c1 - d * s1, d * c1 + c * s1


@triton.jit
def turn_tokens(a, b, c, d, p_cos, p_sin, o_s, m_s, o_g, G: tl.constexpr):
    """Turn quarters (ROWS, G) by the rows and columns of the tokens o_s; the tables are (S, 2 G)."""
    o_angle = o_s[:, None] * (2 * G) + o_g[None, :]
    m_angle = m_s[:, None]
    # (ROWS, G) each
    c0 = tl.load(p_cos + o_angle, mask=m_angle, other=0.0)
    s0 = tl.load(p_sin + o_angle, mask=m_angle, other=0.0)
    c1 = tl.load(p_cos + o_angle + G, mask=m_angle, other=0.0)
    s1 = tl.load(p_sin + o_angle + G, mask=m_angle, other=0.0)
    return turn_quarters(a, b, c, d, c0, s0, c1, s1)


@triton.jit
def turn_slot(a, b, c, d, p_cos, p_sin, i_seen, o_g, G: tl.constexpr):
    """Turn quarters (ROWS, G) by the time of slot i_seen; the tables are (B M, 2 G) or (B F M, 2 G)."""
    o_angle = i_seen * (2 * G) + o_g[None, :]
    # (1, G) each
    return turn_quarters(
        a,
        b,
        c,
        d,
        tl.load(p_cos + o_angle),
        tl.load(p_sin + o_angle),
        tl.load(p_cos + o_angle + G),
        tl.load(p_sin + o_angle + G),
    )


@triton.jit
def mix_quarters(a, b, c, d, p_matrix):
    """Multiply groups of four, as row vectors, by the 4x4 at p_matrix from the right."""
    m = p_matrix
    e = a * tl.load(m) + b * tl.load(m + 4) + c * tl.load(m + 8) + d * tl.load(m + 12)
    f = a * tl.load(m + 1) + b * tl.load(m + 5) + c * tl.load(m + 9) + d * tl.load(m + 13)
    g = a * tl.load(m + 2) + b * tl.load(m + 6) + c * tl.load(m + 10) + d * tl.load(m + 14)
    h = a * tl.load(m + 3) + b * tl.load(m + 7) + c * tl.load(m + 11) + d * tl.load(m + 15)
    return e, f, g, h
