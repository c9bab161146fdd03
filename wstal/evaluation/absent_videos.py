"""Videos that a published list of test videos lacks, where no rule tells which they are."""

from __future__ import annotations

# Validation videos of ActivityNet 1.3 of which the features that ACM-Net released have none, presumably since YouTube
# no longer had them: those of the official 4,926 that are not in gt.json of ispc-lab/ACM-Net.
_ACTIVITYNET13 = """
-79MZQX4CEA -DGsqL65o4k -F7QWQA8Eh8 -LtQMRfj0eM -VexUX6OJBM -Z98HU6T7J8 -npRRmY2wBs -u2zAMnrCC4 06xJ8-Dg_j8
0LJ1mSpqGJg 0N8iIUS660o 0VoNAs7Ia0A 0_PdI-5l62o 0cscG-qOaQY 0fvL6IHKYF0 0gLAhptj34w 0iIY3HLF3lU 0n3VRoYYYGU
0yi-nkwLEnI 15IRaGI4Ml0 1T66cuSjizE 1Vu0bzAKL8Q 1jX8p54Dfjs 2-1MNxfX5Bc 25Wxe9TQzY8 2HmhRdKRVb4 2TEJnQzCPUM
2fMpsSrmeIA 2lUqeOw61QY 2rgamh4uty8 3CeZS6-0NfU 3TNDCTlLlGk 3Y_4Azzta6Q 3gPjMvTmE2g 42XFIWVIWpw 45P3UDcb4Gc
4ACqWG_p1bI 4KMbeat6yoE 4OCbTYrThtc 4Sf9C_vtYIs 4mSPGxeKK2k 5OWJ7WqKWMU 5Q_FrGFVGNY 5SpWmZxECqc 5UlxCwq-LOs
5WqnKjOz1z4 5zT1GWfmVLU 62s1ZSNLJ6g 633ZdPm_GjM 6DXH6kwMe-Q 6J45AbWiGIE 6Kp_fvkZWTE 6SOluodeJ7s 6b8h8ztnj9Q
6fyIc1vrK4Q 6xAe1YVbxuY 7-u3OI6HDns 701qhmCLPxU 75cjK13ylJM 7Eh6c1eYMFk 7O9kkDxEvaY 7X_wgaRaJYQ 7kO_qcJEiu0
7p99ez6MEeo 8-QcL1k5n6k 81dGQTVec_s 81k4vwur1Gk 8onOVVuN_Is 8v2ewQE-QK0 91WRZuT4c6E 9A9_sNvJ8zQ 9UpVdljXQ4E
9Zy5ylJYiA4 9cJi1iD7Iyo 9wRQsxVFwkE A32TgJfp2z8 A4L4ObzZ5VE A7ER02-zr54 ABBA086Gmq0 AH4v5vqsUlc AISkvED80lU
AR6_PW1um-I Aa33vHLEXJA AcLZk6JyXUM Ad9jrt2bP1o AyicWbHhUWc B42CY1Z6eV8 B67jaG6qKWE B8KJJecq2F0 BCdt22s9hlU
BEtftLo6NKQ BGHQbw5HZ9Y BKdKbFPerGo BR9dr2iOyNc BSg989GP5ro Bule85koN3o CCRPXH8ui-s CQ0r8ldAKl8 CRDBKk44RWg
CdjU2OZri4c CsvEXvHlO3M D0aZaiBAHxg DUb48prwNZk D_yO_40uREE DvDfifKGXXg E15z95ZcEYU EI_6eT-0-X4 EWlt9TTOw30
EbGq9gXcXLQ Eb_9_Bcij0Q Ed7kAmkawTo Et4GHTvGbg0 F3iZD7tm8Io FBUtGL5_tto FCiKVtVqTAA FGFPyp9nJug FIw076A69Oc
FQEGKGn9vnU FQVs9_IbgOY FSe9tVYHgBc FU0EPNGKsv8 Fb-t6zr7K5c FiqkrBh1VOI FrV8r4l5ZUM G3H3Gflf1SM G71xFbDSSno
GGv0sCOf_tM GKM-K8jbfyE G_US7iMc6Y4 Gg32cIypcdc HWV_ccmZVPA HatKNbfqL-k HlAjWgz7zZ4 HwTSF0VgmMU I2w4N_GnyT8
I4kjOE8HnU0 I5F59PkcDWM I5Q0DcmTs9c I5g6I-FOguQ IZNrdIkMCoc IhWxuvzIHkc IqXaLlFSWwc J8B2dX3FLTo JHuLY-ygFkc
JQcN61A1MEU JUfowIpmwaE JWN0cMm-8ug JXMD8Obk0yg Ja8QImLWYII JcsnMUVBlac Jd5tpIdMGh8 JnpcJP82WLI JoiZmVQCLCI
Jx4GCjGARqs JyfelXz6GaA K1TizK5Sg78 KNLGluuewIU Keuj_3QyLq0 KoqE2gPCLe4 KyDcuYjDi_Y KzVRgHnpCOQ L1B_cE8waag
L61Le9sOGK0 LCe0toF3058 LSFmrUdURCs LUDZ7e0RdEE LZEiFNEAyyw Lf3oTCD4d08 M6FdaEstXbI MRzsZN5p9QY MSPslSgkp60
MTJ1EtiizVQ Mdt2E8KYpCg MmOVjM5-D-U MubE2kOK6z0 NHDjJ8auZQ0 NHznDFD3V3k NLdyQ1oMmAo NNOsdZr802w NbO4k5EtU4Y
NcTZ3wgdNOQ Ny8NDMWfGJk O3HFalRZVts OEQM6wYtYlk OMRu1rPRBHo OWyqpSBJH8M OaG9uH7BgjI OqLUp37WKMA OuVncktxGw0
OwchMqCYaF4 P2hrv6QzDPI P6Z-7k-erfc PAiJNr97C6g PCTqA_ov8RA PEpfA3L4m20 PJ72Yl0B1rY PSh-caJvSHU PVdd6E1S0Yc
PllZQ09sBuI PsddM2OmOGo Pu5p7SC3sqg QBI5ZH_cdik QBqfrJzcrns QOuNt8YH3Rk QSV7f5XHohE R246xMs2aig R4oYA0Zu-m0
RAluocUocdw RHtpBRwZ9hM RYJ3yzxZB8k RblRzlmSFak RjFoJggnfj4 RnN4BXyOtxU SFfB6qvT5FI SO5KnbKienU SdsoRu3953g
SeVftOMjNMM Si6LZFiQT3k Snq0l-gKpWo SqIVJrXxO3g T60xwc6nKJI THOLslLjRqs TP8lUusp66Y TomBet77rDc Trzd5ijRN1A
TtAEG3yXDnI Ttx3kt2fW1o Tv8r1w-rLME Ty0BvWyYPVA UE2mDvY9rew UHNUmpx0nww UH_z4C6sv3E UIPTzsWiGSU UPwDuuYlLfQ
URgF15eyQvg Ub88_ql0B78 UgXPt2LydrY UodvUEkuVig Uw_0h2UrfyY V0e5tItt1RM V6B8zFv1DdA VAG6ECk5WYo VE9MAMmF1wc
VGvjsCblFY0 VYuQAfG0gKw VbhW_K3NvmQ VcEW9F8TyqU VdY1Shdks6o Vh4TxFOCNM8 Vkr3r1Cd0mI Vre3tO7xV98 W3TQnn0q9kc
WHYEBsWp5qY WTfeKnRJ17g WaVrNbTmbU4 WaXfGbfUYJg Ws5jA8cMKas XBBT8UvESiE XBMiD_7fdF4 XQaaA2UZYh8 Xf0c2abFH3Y
XkkOVpXegS8 XxfatT0sWXw Y4IsLkxb5CI YBrcJxnXuVU YDSSJ6Tp47g Yc9pZ8Vy-3s YfxK4HAp8jI Yi-0wjSu0E0 YjxjsP6A5H8
Yl85vnsndx0 YveUW4bLL5A Z1img-5JbDo ZGsYV0KDB-4 ZHOPn9lONHA ZLmoqxkCJL0 ZVIi4lPU6h0 ZhUC4qTGdHY Zjfw0n32DBA
ZncidS9kQ-g ZoCRdAYWtKg Zt8zZhMs4Es _Ew3g9PXhvo _I1zlicAxpM _WMRdq7yFpA _cA6yS9SeEc _roK9m9UOvM _vUE7PhDBcA
a2JBhm22-M4 a6kF1_4rs2E a7YSE6dZ1yk aGKySEwCMnI aTQaYDmcMDY aa0MLYA8F7s akJbB6LWP34 aljYWkDQzN8 apjGHMrnMV0
aqQ7-J9kbUE b-3l2qIHL5w bBtzyRzk0UM bG7hnpAeja0 bZ4r3Y_qceE bb-DPA34qvw bjKd--KFl0E bmIWsU8sNlw c-C_9InvwKE
c-zbA4zixfE cBAlXvu38dg cFzo-Zgxk1M cQr-HSUKbsw cWBbuw_DA2c cr2lbZ6or1Q d0FP6xp9O4c d79uK3AhtTU d950IKYTYY0
dEG-OgH9zmU dJgea9sOlBY dJknA-jTNGc dc8pLGl9Ccc dcMFJ-8Eo7g dd1LE0m_KVg dgRYwmcRpuo e4AIrRnWakA eic6dpU0ytM
ekJtPwfLM-M ekbZecn088U er6fi7nYsuw esNQZCjMZaM esTcWwmykKQ esuEWVNHfsM euF5okzyaaA ev-RTtbVjFI ez8ram5yd70
f1kY1-9XR1k f6wAW0Jv2Eo fPCfTJLh46A fU-kGMQ68jg fbIEeQknsuo feWO_gqAcGk ffUtqOyJ7fM fxgbk_Kk4Rw g0vAi9iuVPA
gIgim1Dp8HU gUR1wXosHMo gXAMD_KxXII gbuRv8phs1Y h3qKte2gv14 hRk-3fep5WQ hfZQBDePOOE hiifjzLG8Io i2dFL7sGf9c
i4SNM6xSLI8 i5-OVkjT0nM iDhzxzLmwoI iSH43hQoxio iaKlx11RAiY ijSmiDjlmlU iyOyZJm7fVU j6zAdpBqRu0 jEppv00aBBc
jQVT4u6NojM jdz4PzF1pO0 jherly5DNjg jkay2K3RA1M kQ4rE7o6rrg kTBEGydNpgg k_ZXmr8pmrs ksKlcjeIBi0 kyObhFkHrak
lARaqx1e7wM lBhNeACY8y4 lFlQ_xWVt8M lOtplLrtapE lQWij22wbNU lZcTesK6CfA laKctaVegPg lkC_md7KKq0 m2hiQ9EOUUI
mUyMYnGXKgk mYfo8LhPB5Y ma9R2AjCRZE mjKcoY18QG0 mmgoptOJM0s mpFNy97oV0c msd9vrplD-I mua8hNPuQHw n2wq_9TeNYM
nB50V0OBto0 nCzB1iXKYk4 nKa1e_CpvoY nqB4Zn6UWdk nrh2jDsmeLQ o-BGGr-DU5g o3yvGAz5IJ8 o8qR72Ymru8 oEC5UG-rBFc
oNpkjfX2rTc oO1g33vi4hg oQuAwR_t5Ig oUQPIZu5bVU ogOrhXUgna0 ooCciCGrdcA osjru9UsWsI outMi06JZss ox2AGCcE9a0
ox6cIfguQ00 p-l6as8o1f4 p1fpQ4yR1co pPM1jC_NlzI pRkJ_9zq16A pWotXONgXtc pYvqbfVY-s8 pf49xhMRrgQ pnEYhDVXVJ0
pnFRC2_HPrE pniQHSjY7dc pnxgTQofPQo psgIH8U1adg qAZStAHJ3CQ qwxmpiaT-kk r-BJYixThME r1y_ASZDdEo r8DXz1FOb90
ranTpEJvqs8 ripbruSSD8w rrKGM5hck1A s5QkiA-w5YE sGUkc9ajgiU sMITf5WBIxM sVDRluetSyg sZ95YHZtVCc s_QH-5G33Fw
skIP_U4EYDQ snvSHNYvRks t0ZuC58UIOM t1urvYx1X_w t6d__c9sIUU t7J7SugZPlE tCfu0LplM64 tIbSsad0z9U tScqYRQ7zyo
tXuNa_h804c tcGO-GHcQIQ td15Nx9J0a4 teIE_kXbMiw tnB7LNIcXC0 u7OvguFW-Hs uBmUiouilQY uIOIcv5MhuA uKzelWWaYB4
uhiQp0GCeKg upoS4Jct7kE uptOE6bfBgA ux3h_qEusvw v-LmMLpvsbk v-YKnFqX_L0 v1Vmf5s42No v3t4Z5cEgZM v5patZyuYys
v6go4RA0ZB4 vBpYwyXfE0o vRNcq6nOk0E vgdcVhRSa9E vqqoDYma9F8 vwpaEsh0-1U w1VJnYDYYY0 w2HnFjJei7k w87EDMJo5NM
wB9LBEHR5-c wD-9KvI1-AI wDw3i5ODGWA wU-8acM-IUM wZJeEV6sZXE wdD-UHM8rTg wyOf_L4cNHc x6E92fGgdH4 xQH8YS2_NxY
xekPSA9h_jg xfhwYTFCGYY xlr_sSnttZo xv8OYJ7t7-E y-rgla4aNUo y3xcwZpcLvI y7i-jRmrwnI yAkVtmP7654 yHaTlDD-qHA
yJSQmNSFlNI yVp99wxlW90 ylo_0z8si1g ywSeEtroEXo yyCsQ7QzAJ8 yzN9jN3qncA z-_snl6eaPE z08g5S7J-CY zAr9k1-umvY
zN9COeDCm9Q zYQ-WdosIwI zsw9WEsSowI zzci2xZ011A
"""
ACTIVITYNET13_ABSENT = frozenset(_ACTIVITYNET13.split())
