"""Which of timm's networks are pruned: the smallest of each family whose layers are mainly convs."""

# kinds of networks of one module of timm are families of their own; width of the images where it is not 64
PIXELS = 64
CNNS: dict[str, int] = dict.fromkeys(
    (
        *("gernet_s", "mobileone_s0", "regnetz_b16", "repvgg_a0", "resnet32ts", "gcresnet33ts"),
        *("eca_resnext26ts", "regnetz_b16_evos", "convmixer_768_32", "convnext_atto", "convnextv2_atto", "csatv2"),
        *("cspresnet50", "cspresnext50", "cs3darknet_focus_s", "darknet17", "darknetaa53", "cspnext_tiny"),
        *("densenet121", "densenetblur121d", "dla46_c", "dla60_res2net", "dpn48b", "dpn68", "edgenext_xx_small"),
        *("efficientnet_b0", "efficientnet_lite0", "efficientnet_es", "efficientnet_cc_b0_4e", "efficientnet_b0_gn"),
        *("efficientnet_b0_g16_evos", "efficientnet_blur_b0", "efficientnetv2_rw_t", "tf_efficientnetv2_b0"),
        *("tf_efficientnet_lite0", "tf_mixnet_s", "mnasnet_small", "mobilenetv2_035", "mobilenet_edgetpu_v2_xs"),
        *("mobilenetv1_100", "fbnetc_100", "spnasnet_100", "mixnet_s", "tinynet_e", "fasternet_t0", "fastvit_t8"),
        *("ghostnet_050", "ghostnetv2_100", "ghostnetv3_050", "hardcorenas_a", "hgnet_tiny", "hgnetv2_b0"),
        *("hrnet_w18_small", "inception_next_atto", "lcnetv2_small", "mambaout_femto", "poolformer_s12"),
        *("poolformerv2_s12", "convformer_s18", "fbnetv3_b", "lcnet_035", "mobilenetv3_small_050"),
        *("mobilenetv4_conv_small_035", "tf_mobilenetv3_small_minimal_100", "nfnet_l0", "nf_regnet_b0", "nf_resnet26"),
        *("nf_ecaresnet26", "nf_seresnet26", "dm_nfnet_f0", "rdnet_tiny", "regnetx_002", "regnety_002", "regnetv_040"),
        *("regnetz_005", "repghostnet_050", "repvit_m0_9", "res2net50_48w_2s", "res2next50", "resnest14d"),
        *("resnet10t", "resnet18", "resnext26ts", "resnext50_32x4d", "seresnext26d_32x4d", "ecaresnet26t"),
        *("seresnet33ts", "resnetblur18", "resnetaa34d", "resnetrs50", "resnet50_gn", "resnet51q", "wide_resnet50_2"),
        *("resnetv2_18", "resnetv2_50x1_bit", "resnetv2_50d_gn", "resnetv2_50d_evos"),
        *("rexnet_100", "rexnetr_100", "selecsls42", "legacy_seresnet18", "legacy_seresnext26_32x4d", "skresnet18"),
        *("starnet_s050", "tresnet_m", "vgg11", "vgg11_bn", "vovnet39a", "ese_vovnet19b_slim_dw", "eca_vovnet39b"),
        *("xception41", "xception41p", "legacy_xception"),
    ),
    PIXELS,
)
CNNS |= {
    "bat_resnext26ts": 256,
    "resnetv2_50d_frn": 160,
    "inception_v3": 96,
    "inception_v4": 96,
    "inception_resnet_v2": 96,
    "nasnetalarge": 96,
    "pnasnet5large": 96,
}
# with attention in between: convs and what they share channels with are pruned
HYBRIDS: dict[str, int] = {
    **dict.fromkeys(("mobilevit_xxs", "mobilevitv2_050", "swiftformer_xs", "efficientvit_b0", "shvit_s1"), PIXELS),
    **dict.fromkeys(("cpubone_nano", "lowformer_b0", "iformer_t", "efficientvim_m1", "mobilenetv4_hybrid_medium"), 64),
    **dict.fromkeys(("levit_conv_128s", "efficientformer_l1", "efficientformerv2_s0", "efficientvit_m0"), 224),
    **dict.fromkeys(("nextvit_small", "tiny_vit_5m_224", "visformer_tiny", "coatnet_nano_rw_224"), 224),
    **dict.fromkeys(("maxvit_pico_rw_256", "botnet26t_256", "lambda_resnet26t", "halonet26t"), 256),
    **dict.fromkeys(
        ("pvt_v2_b0", "focalnet_tiny_srf", "gcvit_xxtiny", "vit_tiny_r_s16_p8_224", "vitamin_small_224"), 224
    ),
}
