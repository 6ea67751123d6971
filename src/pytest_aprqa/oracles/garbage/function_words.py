"""The most frequent joining words of the languages that are written in Latin letters."""

from __future__ import annotations

# The 10-40 most frequent words of each language's running text; public frequency lists agree.
_BY_LANGUAGE = {
    "English": "the of and to a in is it that for was on are as with his they at be this from i "
    "have or by one had not but what all were when we there can an your which their if do will "
    "each about how up out them then she so would other into has her two him my than been no you "
    "let where these some more our us could should may just also because while after before",
    "German": "der die das und ist in zu den mit von nicht ein eine ich sie es sich auf für dem "
    "auch als an wie im er aus bei war oder aber sind wird hat nach werden",
    "French": "le la les de des du et est un une en que qui dans pour pas sur au il elle ce se par "
    "plus avec ne sont je vous nous l d c qu",
    "Spanish": "el la los las de del y es un una en que por con para no se al lo como su más o "
    "pero sus le ya este son",
    "Portuguese": "o a os as de do da e é um uma em que por com para não se no na ao mais como "
    "dos das foi",
    "Italian": "il lo la i gli le di del della e è un una in che per con non si da al come sono "
    "più nel anche",
    "Dutch": "de het een en van is in dat op te zijn met voor niet aan er die om ook als maar",
    "Scandinavian": "og i er det som en et til på av for med har de ikke at den och att är "
    "som ett med inte jag var om för",
    "Finnish": "ja on ei se että oli kun mutta hän ovat myös tai jos niin",
    "Polish": "i w na z do się jest nie to że o jak a po co za dla od przez",
    "Czech": "a v na je se to s z do o že jako i za by pro jsem",
    "Turkish": "ve bir bu da de için ile ne çok o olarak daha gibi var",
    "Indonesian": "yang dan di itu dengan untuk tidak ini dari dalam akan pada ke adalah ada",
    "Vietnamese": "là và của có một trong không cho được với các những",
    "Hungarian": "a az és hogy nem is egy van volt meg de",
    "Romanian": "și de la în a cu pe nu este un o care din mai",
    "Latin": "et in est non ad ut sed cum ex qui si per ab",
    "Swahili": "na ya wa kwa ni la za katika kama",
    "code": "import from return def class for while if else elif let const var function print "
    "public static void int new this self true false null none select where order group by insert",
}

FUNCTION_WORDS = frozenset(word for words in _BY_LANGUAGE.values() for word in words.split())
