"""Named schedules, with the source of each. Data only; text is t, image or regions v."""

BERT = '12*[t<t]'  # Devlin et al. 2019, arXiv:1810.04805
GPT = '12*[t<t]'  # Radford et al. 2018 and 2019; pre-norm, the edge t<t is causal
IMAGE_GPT = '24*[v<v]'  # Chen et al. 2020, Generative Pretraining from Pixels; pre-norm, the edge v<v is causal
VIT = '12*[v<v]'  # Dosovitskiy et al. 2021, arXiv:2010.11929; pre-norm
LXMERT = '9*[t<t] 5*[v<v] 5*[t<v v<t tied noffn; t<t v<v]'  # Tan and Bansal 2019, arXiv:1908.07490, section 2.2
SINGLE_STREAM = '12*[t<tv v<tv tied]'  # VisualBERT (arXiv:1908.03557), UNITER (arXiv:1909.11740), VL-BERT
VILBERT = '6*[t<t] 6*[t<v v<t 8x128; v<v t<t]'  # Lu et al. 2019, arXiv:1908.02265, as released
VILBERT_VOLTA = '6*[t<t] 6*[t<v v<t; t<t v<v]'  # Bugliarello et al. 2021, arXiv:2011.15124
BLIP = '12*[t<t noffn; t<v]'  # Li et al. 2022, arXiv:2201.12086; the edge t<t is causal where it writes
AST = '12*[a<a]'  # Gong et al. 2021, arXiv:2104.01778; pre-norm
WHISPER_SOUND = '4*[a<a]'  # Radford et al. 2022, arXiv:2212.04356, of the smallest size; pre-norm
WHISPER = '4*[t<t noffn; t<a]'  # the same, what writes: the edge t<t is causal; a comes encoded
VIVIT = '12*[f<f]'  # Arnab et al. 2021, arXiv:2103.15691, model 1; pre-norm
VIDEO_MAE = '12*[f<f]'  # Tong et al. 2022, arXiv:2203.12602; pre-norm
MULT_PAIR = '4*[x<y tied]'  # Tsai et al. 2019, arXiv:1906.00295, section 3.2; pre-norm
METER = "6*[t<t v<v noffn; t<v' v<t']"  # Dou et al. 2022, arXiv:2111.02387, co-attention
METER_MERGED = '12*[t<tv v<tv tied]'  # the same, merged attention
VLMO = '12*[t<tv v<tv tied noffn; t v]'  # shared attention, a feed-forward of its own for each modality
Q_FORMER = '6*[q<qt t<qt tied noffn; q<v noffn; q t; q<qt t<qt tied noffn; q t]'  # BLIP-2's
GIT = '12*[t<tv v<v tied]'  # the edge t<t is causal
ALBEF = '6*[t<t] 6*[t<t noffn; t<v]'  # Li et al. 2021, arXiv:2107.07651; v comes encoded
HYBRID = '6*[t<t v<v] 6*[t<tv v<tv]'
LATE = '12*[t<t v<v]'  # both streams pooled
AUDIO_VISUAL = '8*[a<a v<v] 4*[a<av v<av]'
