"""The planted bugs: what is replaced in the text of a .cu file (its headers inlined), and which check runs then."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """`old`, which the text of `file` holds exactly once, becomes `new`; `check` (of checks.py) must then fail."""

    name: str
    file: str
    check: str
    old: str
    new: str
    sanitize: str = ""

    def applied_to(self, text: str) -> str:
        """The text with the bug. Raises ValueError where it does not hold `old` once."""
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.file} must hold this once, not {text.count(self.old)}: {self.old!r}")
        return text.replace(self.old, self.new)


BARRIER = "__syncthreads();"

MUTANTS = [
    # ------------------------------------------------------------------------------------------------ barriers
    Mutant("softmax_reads_before_all_warps_wrote", "softmax.cu", "softmax",
           f"of_warp[threadIdx.x / WARP] = value;\n    {BARRIER}", "of_warp[threadIdx.x / WARP] = value;"),
    Mutant("slices_are_added_before_they_are_there", "slices.cu", "slices",
           f"= mine;\n    {BARRIER}", "= mine;"),
    Mutant("groups_add_up_without_a_barrier", "norm.cu", "batch_norm", f"        {BARRIER}\n        if (group <",
           "        if (group <"),
    Mutant("gemm_multiplies_half_a_panel", "gemm.cu", "gemm",
           f"carried_b.put(shared.b[buffer ^ 1], right.along_terms);\n            {BARRIER}",
           "carried_b.put(shared.b[buffer ^ 1], right.along_terms);"),
    Mutant("conv_multiplies_half_a_tile", "conv.cu", "conv",
           f"b.store(memory.b[now ^ 1]);\n        }}\n        {BARRIER}", "b.store(memory.b[now ^ 1]);\n        }"),
    Mutant("gradient_walks_before_its_axes_are_there", "conv.cu", "conv_input_grad",
           f"column_phase);\n    {BARRIER}", "column_phase);"),
    Mutant("depthwise_adds_what_others_have_not_written", "depthwise.cu", "depthwise",
           f"threadIdx.x] = sums[t];\n        {BARRIER}", "threadIdx.x] = sums[t];"),
    Mutant("adam_reads_the_rate_too_early", "optim.cu", "adam",
           f"{BARRIER}\n    const real rate = shared_rate, mean_weight = 1 - beta_1, square_weight",
           "const real rate = shared_rate, mean_weight = 1 - beta_1, square_weight"),
    Mutant("response_terms_are_read_too_early", "local_response.cu", "local_response",
           f"            {BARRIER}\n            const int to =", "            const int to ="),
    Mutant("a_barrier_that_not_all_threads_reach", "slices.cu", "slices", f"= mine;\n    {BARRIER}",
           f"= mine;\n    if (element < count) {BARRIER} else __syncwarp();"),
    # ------------------------------------------------------------------------------------------------ warps
    Mutant("softmax_adds_half_a_warp", "softmax.cu", "softmax", "offset = WARP / 2", "offset = WARP / 4"),
    Mutant("softmax_shuffles_in_a_divergent_branch", "softmax.cu", "softmax",
           "        value = Operation::of(value, __shfl",
           "        if (threadIdx.x % WARP < 31) value = Operation::of(value, __shfl"),
    Mutant("layer_norm_adds_half_a_warp", "layer_norm.cu", "layer_norm", "int step = 16;", "int step = 8;"),
    Mutant("group_norm_adds_half_a_warp", "group_norm.cu", "group_norm", "int step = 16;", "int step = 8;"),
    Mutant("odd_groups_lose_one", "norm.cu", "batch_norm", "(groups + 1) / 2", "groups / 2"),
    # ------------------------------------------------------------------------------------------------ bounds
    Mutant("window_runs_out_of_the_image", "pool.cu", "max_pool", "min(top + g.kh, g.h)", "top + g.kh"),
    Mutant("window_is_one_row_too_high", "pool.cu", "max_pool",
           "row < box.bottom; ++row) {\n        const int stop", "row <= box.bottom; ++row) {\n        const int stop"),
    Mutant("patch_reads_the_row_below_the_image", "im2col.cu", "im2col", "h < g.h &&", "h <= g.h &&"),
    Mutant("conv_reads_the_row_below_the_image", "conv.cu", "conv", "(unsigned)row < (unsigned)down.source",
           "(unsigned)row <= (unsigned)down.source"),
    Mutant("gemm_writes_beyond_the_last_column", "gemm.cu", "gemm", "if (column + lane < g.n) address[lane] =",
           "address[lane] ="),
    Mutant("gemm_writes_one_row_more", "gemm.cu", "gemm", "if (row >= g.m) continue;", "if (row > g.m) continue;"),
    Mutant("strip_writes_one_pixel_more", "depthwise.cu", "depthwise", "if (j + s >= g.ow) break;",
           "if (j + s > g.ow) break;"),
    Mutant("optimizer_ends_with_its_chunk", "optim.cu", "adam", "min(start + CHUNK, tensors.size[t])", "start + CHUNK"),
    Mutant("philox_writes_whole_blocks", "random.cu", "philox", "if (4 * block + i < count) words", "words"),
    # ------------------------------------------------------------------------------------------------ packs and tails
    Mutant("dropout_takes_the_tail_for_a_pack", "random.cu", "dropout", "aligned && first + 4 <= count", "aligned"),
    Mutant("dropout_packs_what_is_not_aligned", "random.cu", "dropout", "aligned && first + 4 <= count",
           "first + 4 <= count", sanitize="undefined"),
    Mutant("slices_forget_the_last", "slices.cu", "slices", "s < slices; s += WARPS", "s + 1 < slices; s += WARPS"),
    Mutant("gemm_turns_a_pack_onto_one_term", "gemm.cu", "gemm", "panel[minor + lane][major]", "panel[minor][major]"),
    Mutant("gemm_slice_runs_over_the_end", "gemm.cu", "gemm", "min(g.k, begin + g.slice_terms)",
           "begin + g.slice_terms"),
    Mutant("weight_gradient_slice_runs_over_the_end", "conv_weight_grad.cu", "conv_weight_grad",
           "end = min(g.n * g.oh * g.ow, first + slice_pixels)", "end = first + slice_pixels"),
    Mutant("average_misses_the_last_window", "pool.cu", "average", "min(padded / stride + 1, windows)",
           "min(padded / stride, windows)"),
    # ------------------------------------------------------------------------------------------------ buffers, places
    Mutant("gemm_has_a_single_buffer", "gemm.cu", "gemm", "carried_a.put(shared.a[buffer ^ 1]",
           "carried_a.put(shared.a[buffer]"),
    Mutant("conv_has_a_single_buffer", "conv.cu", "conv", "a.store(memory.a[now ^ 1])", "a.store(memory.a[now])"),
    Mutant("finish_adds_its_own_sum_again", "gemm.cu", "gemm", "sum += sums[warp + other][lane]",
           "sum += sums[warp][lane]"),
    Mutant("gather_reads_the_first_image", "pool.cu", "gather", "(at.n * g.h * g.w + where[i])", "where[i]"),
    Mutant("batch_norm_leaves_an_output_unwritten", "norm.cu", "batch_norm",
           "var[channel] = variance < 0 ? 0 : variance;", ""),
    Mutant("sums_come_in_the_order_of_threads", "slices.cu", "slices",
           f"sums[threadIdx.y][threadIdx.x] = mine;\n    {BARRIER}",
           f"if (threadIdx.y == 0) for (int i = 0; i < WARPS; ++i) sums[i][threadIdx.x] = 0;\n    {BARRIER}\n"
           f"    sums[0][threadIdx.x] = float(sums[0][threadIdx.x] + float(mine));\n    {BARRIER}"),
    # ------------------------------------------------------------------------------------------------ numbers
    Mutant("pooling_loses_nan", "pool.cu", "max_pool",
           "!(x.lane[v] <= best.lane[v]) && best.lane[v] == best.lane[v]", "x.lane[v] > best.lane[v]"),
    Mutant("relu_loses_nan", "activation.cu", "activation", "case RELU: return x < 0 ? real(0) : x;",
           "case RELU: return x > 0 ? x : real(0);"),
    Mutant("cross_entropy_multiplies_zero_and_infinity", "softmax.cu", "cross_entropy", "if (target != 0) mine -=",
           "mine -="),
    Mutant("philox_has_a_wrong_constant", "random.cu", "philox", "0xBB67AE85u", "0xBB67AE84u"),
    # ------------------------------------------------------------------------------------------------ tensor cores
    Mutant("tensor_cores_do_not_wait_for_their_copies", "conv_tc.cu", "tensor_cores",
           "wait_for_copies<STAGES - 2>();", ""),
    Mutant("tensor_cores_wait_for_one_step_too_few", "conv_tc.cu", "tensor_cores", "wait_for_copies<STAGES - 2>();",
           "wait_for_copies<STAGES - 1>();"),
    Mutant("tensor_cores_load_a_wrong_fragment", "conv_tc.cu", "tensor_cores",
           "2 * fragment + lane / 16));", "2 * fragment + lane / 8 % 2));"),
    Mutant("tensor_cores_copy_over_what_is_read", "conv_tc.cu", "tensor_cores", "a.copy(free);", "a.copy(now);"),
]  # fmt: skip
