/* hf_names: what folders call the rules' tensors: rows only.  Several names of one tensor are of several times and
 * tools; a folder has one of them. */
#include "shard/arch/hf_parts.h"

#define LAYER "layers.%u."
#define ATTENTION LAYER "self_attn."
#define BAILING LAYER "attention."
#define MLP LAYER "mlp."
#define SPARSE LAYER "block_sparse_moe."
#define LLAMA4 LAYER "feed_forward."
#define LINEAR LAYER "linear_attn."

enum {
    FFN_NORM_ELSEWHERE = ARCH_ODD_FFN_NORM | ARCH_POST_NORMS, /* the norm behind attention is not called ffn_norm */
    TURNED_EXPERTS = ARCH_EXPERT_BIAS | ARCH_CHUNKS,          /* experts in one tensor, inputs slowest */
};

static const struct hf_name names[] = {
    {"token_embd.weight", "embed_tokens.weight", HF_PLAIN, 0, 0},
    {"token_embd.weight", "word_embeddings.weight", HF_PLAIN, 0, 0},
    {"output_norm.weight", "norm.weight", HF_NORM, 0, 0},
    {"output_norm.bias", "norm.bias", HF_PLAIN, 0, 0},
    {"output.weight", "/lm_head.weight", HF_PLAIN, 0, 0},
    {"output.bias", "/lm_head.bias", HF_PLAIN, 0, 0},
    /* attention */
    {"blk.%u.attn_norm.weight", LAYER "input_layernorm.weight", HF_NORM, 0, 0},
    {"blk.%u.attn_norm.bias", LAYER "input_layernorm.bias", HF_PLAIN, 0, 0},
    {"blk.%u.attn_q.weight", ATTENTION "q_proj.weight", HF_Q, 0, 0},
    {"blk.%u.attn_k.weight", ATTENTION "k_proj.weight", HF_Q, 0, 0},
    {"blk.%u.attn_v.weight", ATTENTION "v_proj.weight", HF_PLAIN, 0, 0},
    {"blk.%u.attn_q.bias", ATTENTION "q_proj.bias", HF_Q, 0, 0},
    {"blk.%u.attn_k.bias", ATTENTION "k_proj.bias", HF_Q, 0, 0},
    {"blk.%u.attn_v.bias", ATTENTION "v_proj.bias", HF_PLAIN, 0, 0},
    {"blk.%u.attn_output.weight", ATTENTION "o_proj.weight", HF_PLAIN, 0, 0},
    {"blk.%u.attn_output.bias", ATTENTION "o_proj.bias", HF_PLAIN, 0, 0},
    {"blk.%u.attn_qkv.weight", ATTENTION "qkv_proj.weight", HF_QKV, 0, 0},
    {"blk.%u.attn_qkv.weight", BAILING "query_key_value.weight", HF_QKV, 0, 0},
    {"blk.%u.attn_qkv.bias", BAILING "query_key_value.bias", HF_QKV, 0, 0},
    {"blk.%u.attn_output.weight", BAILING "dense.weight", HF_PLAIN, 0, 0},
    {"blk.%u.attn_output.bias", BAILING "dense.bias", HF_PLAIN, 0, 0},
    {"blk.%u.attn_q_norm.weight", ATTENTION "q_norm.weight", HF_NORM, 0, 0},
    {"blk.%u.attn_k_norm.weight", ATTENTION "k_norm.weight", HF_NORM, 0, 0},
    {"blk.%u.attn_q_norm.weight", ATTENTION "query_layernorm.weight", HF_NORM, 0, 0},
    {"blk.%u.attn_k_norm.weight", ATTENTION "key_layernorm.weight", HF_NORM, 0, 0},
    {"blk.%u.attn_q_norm.weight", BAILING "query_layernorm.weight", HF_NORM, 0, 0},
    {"blk.%u.attn_k_norm.weight", BAILING "key_layernorm.weight", HF_NORM, 0, 0},
    {"blk.%u.attn_sinks.weight", ATTENTION "sinks", HF_PLAIN, 0, 0},
    {"blk.%u.attn_q_a.weight", ATTENTION "q_a_proj.weight", HF_PLAIN, 0, 0},
    {"blk.%u.attn_q_a_norm.weight", ATTENTION "q_a_layernorm.weight", HF_NORM, 0, 0},
    {"blk.%u.attn_q_b.weight", ATTENTION "q_b_proj.weight", HF_PLAIN, 0, 0},
    {"blk.%u.attn_kv_a_mqa.weight", ATTENTION "kv_a_proj_with_mqa.weight", HF_PLAIN, 0, 0},
    {"blk.%u.attn_kv_a_norm.weight", ATTENTION "kv_a_layernorm.weight", HF_NORM, 0, 0},
    {"blk.%u.attn_k_b.weight", ATTENTION "kv_b_proj.weight", HF_K_UP, ARCH_MLA, 0},
    {"blk.%u.attn_v_b.weight", ATTENTION "kv_b_proj.weight", HF_V_UP, ARCH_MLA, 0},
    {"blk.%u.indexer.attn_q_b.weight", ATTENTION "indexer.wq_b.weight", HF_PLAIN, 0, 0},
    {"blk.%u.indexer.attn_k.weight", ATTENTION "indexer.wk.weight", HF_PLAIN, 0, 0},
    {"blk.%u.indexer.k_norm.weight", ATTENTION "indexer.k_norm.weight", HF_PLAIN, 0, 0},
    {"blk.%u.indexer.k_norm.bias", ATTENTION "indexer.k_norm.bias", HF_PLAIN, 0, 0},
    {"blk.%u.indexer.proj.weight", ATTENTION "indexer.weights_proj.weight", HF_PLAIN, 0, 0},
    /* layers with a state */
    {"blk.%u.attn_qkv.weight", LINEAR "in_proj_qkvz.weight", HF_QKVZ_QKV, ARCH_DELTA, 0},
    {"blk.%u.attn_gate.weight", LINEAR "in_proj_qkvz.weight", HF_QKVZ_Z, ARCH_DELTA, 0},
    {"blk.%u.attn_qkv.weight", LINEAR "in_proj_qkv.weight", HF_DELTA_CHANNELS, ARCH_DELTA, 0},
    {"blk.%u.attn_gate.weight", LINEAR "in_proj_z.weight", HF_DELTA_VALUES, ARCH_DELTA, 0},
    {"blk.%u.ssm_ba.weight", LINEAR "in_proj_ba.weight", HF_PLAIN, ARCH_DELTA, 0},
    {"blk.%u.ssm_beta.weight", LINEAR "in_proj_b.weight", HF_DELTA_HEADS, ARCH_DELTA, 0},
    {"blk.%u.ssm_alpha.weight", LINEAR "in_proj_a.weight", HF_DELTA_HEADS, ARCH_DELTA, 0},
    {"blk.%u.ssm_conv1d.weight", LINEAR "conv1d.weight", HF_DELTA_CHANNELS, ARCH_DELTA, 0},
    {"blk.%u.ssm_dt.bias", LINEAR "dt_bias", HF_DELTA_HEADS, ARCH_DELTA, 0},
    {"blk.%u.ssm_a", LINEAR "A_log", HF_DECAY, ARCH_DELTA, 0},
    {"blk.%u.ssm_norm.weight", LINEAR "norm.weight", HF_PLAIN, ARCH_DELTA, 0},
    {"blk.%u.ssm_out.weight", LINEAR "out_proj.weight", HF_DELTA_OUT, ARCH_DELTA, 0},
    /* norms around the feed-forward */
    {"blk.%u.ffn_norm.weight", LAYER "post_attention_layernorm.weight", HF_NORM, 0, FFN_NORM_ELSEWHERE},
    {"blk.%u.ffn_norm.bias", LAYER "post_attention_layernorm.bias", HF_PLAIN, 0, FFN_NORM_ELSEWHERE},
    {"blk.%u.post_attention_norm.weight", LAYER "post_attention_layernorm.weight", HF_NORM, FFN_NORM_ELSEWHERE, 0},
    {"blk.%u.ffn_norm.weight", LAYER "pre_feedforward_layernorm.weight", HF_NORM, ARCH_POST_NORMS, 0},
    {"blk.%u.post_ffw_norm.weight", LAYER "post_feedforward_layernorm.weight", HF_NORM, ARCH_POST_NORMS, 0},
    /* feed-forward */
    {"blk.%u.ffn_gate.weight", MLP "gate_proj.weight", HF_PLAIN, 0, 0},
    {"blk.%u.ffn_up.weight", MLP "up_proj.weight", HF_PLAIN, 0, 0},
    {"blk.%u.ffn_down.weight", MLP "down_proj.weight", HF_PLAIN, 0, 0},
    {"blk.%u.ffn_up.weight", MLP "gate_up_proj.weight", HF_PLAIN, ARCH_FUSED_UP, 0},
    {"blk.%u.ffn_gate.weight", LLAMA4 "gate_proj.weight", HF_PLAIN, 0, 0},
    {"blk.%u.ffn_up.weight", LLAMA4 "up_proj.weight", HF_PLAIN, 0, 0},
    {"blk.%u.ffn_down.weight", LLAMA4 "down_proj.weight", HF_PLAIN, 0, 0},
    /* routers */
    {"blk.%u.ffn_gate_inp.weight", MLP "gate.weight", HF_PLAIN, 0, 0},
    {"blk.%u.ffn_gate_inp.weight", MLP "gate.wg.weight", HF_PLAIN, 0, 0},
    {"blk.%u.ffn_gate_inp.weight", MLP "router.weight", HF_PLAIN, 0, 0},
    {"blk.%u.ffn_gate_inp.bias", MLP "router.bias", HF_PLAIN, 0, 0},
    {"blk.%u.ffn_gate_inp.weight", SPARSE "gate.weight", HF_PLAIN, 0, 0},
    {"blk.%u.ffn_gate_inp.weight", SPARSE "router.layer.weight", HF_PLAIN, 0, 0},
    {"blk.%u.ffn_gate_inp.weight", SPARSE "router.weight", HF_PLAIN, 0, 0},
    {"blk.%u.ffn_gate_inp.weight", LLAMA4 "router.weight", HF_PLAIN, 0, 0},
    {"blk.%u.exp_probs_b.bias", MLP "gate.e_score_correction_bias", HF_PLAIN, 0, 0},
    {"blk.%u.exp_probs_b.bias", MLP "e_score_correction_bias", HF_PLAIN, 0, 0},
    {"blk.%u.exp_probs_b.bias", MLP "gate.moe_statics.e_score_correction_bias", HF_PLAIN, 0, 0},
    {"blk.%u.exp_probs_b.bias", MLP "moe_statics.e_score_correction_bias", HF_PLAIN, 0, 0},
    {"blk.%u.exp_probs_b.bias", MLP "gate.expert_bias", HF_PLAIN, 0, 0},
    {"blk.%u.exp_probs_b.bias", SPARSE "e_score_correction_bias", HF_PLAIN, 0, 0},
    /* experts, one by one */
    {"blk.%u.ffn_gate_exps.weight", MLP "experts.%e.gate_proj.weight", HF_PLAIN, 0, 0},
    {"blk.%u.ffn_up_exps.weight", MLP "experts.%e.up_proj.weight", HF_PLAIN, 0, 0},
    {"blk.%u.ffn_down_exps.weight", MLP "experts.%e.down_proj.weight", HF_PLAIN, 0, 0},
    {"blk.%u.ffn_gate_exps.weight", SPARSE "experts.%e.w1.weight", HF_PLAIN, 0, 0},
    {"blk.%u.ffn_up_exps.weight", SPARSE "experts.%e.w3.weight", HF_PLAIN, 0, 0},
    {"blk.%u.ffn_down_exps.weight", SPARSE "experts.%e.w2.weight", HF_PLAIN, 0, 0},
    /* experts together */
    {"blk.%u.ffn_gate_up_exps.weight", MLP "experts.gate_up_proj", HF_PLAIN, 0, TURNED_EXPERTS},
    {"blk.%u.ffn_down_exps.weight", MLP "experts.down_proj", HF_PLAIN, 0, TURNED_EXPERTS},
    {"blk.%u.ffn_gate_up_exps.weight", SPARSE "experts.gate_up_proj", HF_PLAIN, 0, TURNED_EXPERTS},
    {"blk.%u.ffn_down_exps.weight", SPARSE "experts.down_proj", HF_PLAIN, 0, TURNED_EXPERTS},
    {"blk.%u.ffn_gate_up_exps.weight", SPARSE "input_linear.weight", HF_PLAIN, 0, 0},
    {"blk.%u.ffn_down_exps.weight", SPARSE "output_linear.weight", HF_PLAIN, 0, 0},
    {"blk.%u.ffn_gate_exps.weight", LLAMA4 "experts.gate_up_proj", HF_TURNED_FIRST, ARCH_CHUNKS, 0},
    {"blk.%u.ffn_up_exps.weight", LLAMA4 "experts.gate_up_proj", HF_TURNED_SECOND, ARCH_CHUNKS, 0},
    {"blk.%u.ffn_down_exps.weight", LLAMA4 "experts.down_proj", HF_TURNED, ARCH_CHUNKS, 0},
    {"blk.%u.ffn_gate_exps.weight", MLP "experts.gate_up_proj", HF_TURNED_EVEN, ARCH_EXPERT_BIAS, 0},
    {"blk.%u.ffn_up_exps.weight", MLP "experts.gate_up_proj", HF_TURNED_ODD, ARCH_EXPERT_BIAS, 0},
    {"blk.%u.ffn_down_exps.weight", MLP "experts.down_proj", HF_TURNED, ARCH_EXPERT_BIAS, 0},
    {"blk.%u.ffn_gate_exps.bias", MLP "experts.gate_up_proj_bias", HF_EVEN, ARCH_EXPERT_BIAS, 0},
    {"blk.%u.ffn_up_exps.bias", MLP "experts.gate_up_proj_bias", HF_ODD, ARCH_EXPERT_BIAS, 0},
    {"blk.%u.ffn_down_exps.bias", MLP "experts.down_proj_bias", HF_PLAIN, ARCH_EXPERT_BIAS, 0},
    /* shared experts */
    {"blk.%u.ffn_gate_inp_shexp.weight", MLP "shared_expert_gate.weight", HF_PLAIN, 0, 0},
    {"blk.%u.ffn_gate_shexp.weight", MLP "shared_expert.gate_proj.weight", HF_PLAIN, 0, 0},
    {"blk.%u.ffn_up_shexp.weight", MLP "shared_expert.up_proj.weight", HF_PLAIN, 0, 0},
    {"blk.%u.ffn_down_shexp.weight", MLP "shared_expert.down_proj.weight", HF_PLAIN, 0, 0},
    {"blk.%u.ffn_gate_shexp.weight", MLP "shared_experts.gate_proj.weight", HF_PLAIN, 0, 0},
    {"blk.%u.ffn_up_shexp.weight", MLP "shared_experts.up_proj.weight", HF_PLAIN, 0, 0},
    {"blk.%u.ffn_down_shexp.weight", MLP "shared_experts.down_proj.weight", HF_PLAIN, 0, 0},
    {"blk.%u.ffn_gate_shexp.weight", MLP "shared_mlp.gate_proj.weight", HF_PLAIN, 0, 0},
    {"blk.%u.ffn_up_shexp.weight", MLP "shared_mlp.up_proj.weight", HF_PLAIN, 0, 0},
    {"blk.%u.ffn_down_shexp.weight", MLP "shared_mlp.down_proj.weight", HF_PLAIN, 0, 0},
    {"blk.%u.ffn_gate_shexp.weight", LLAMA4 "shared_expert.gate_proj.weight", HF_PLAIN, 0, 0},
    {"blk.%u.ffn_up_shexp.weight", LLAMA4 "shared_expert.up_proj.weight", HF_PLAIN, 0, 0},
    {"blk.%u.ffn_down_shexp.weight", LLAMA4 "shared_expert.down_proj.weight", HF_PLAIN, 0, 0},
    {"blk.%u.ffn_gate_shexp.weight", LAYER "shared_mlp.input_linear.weight", HF_FIRST, 0, 0},
    {"blk.%u.ffn_up_shexp.weight", LAYER "shared_mlp.input_linear.weight", HF_SECOND, 0, 0},
    {"blk.%u.ffn_down_shexp.weight", LAYER "shared_mlp.output_linear.weight", HF_PLAIN, 0, 0},
};

size_t hf_name_count(void)
{
    return COUNTOF(names);
}

const struct hf_name *hf_name_at(size_t i)
{
    return &names[i];
}
