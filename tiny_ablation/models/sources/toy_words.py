"""The words that are one token each for the toy models: those of the behaviours that ship with the tool.

A fixed list, so that the toy models stay what they are when a corpus or a generator changes. A behaviour that is added
brings its own words here; all other text is served byte by byte.
"""

_TEXT = """
    A Acropolis Adam Adobe Afghanistan Africa After Afterwards Akira Alaska Albert Alice Alighieri All Although Amanda
    Amazon America Amsterdam Amy Anchorage Andrew Android Angela Angeles Anna Anton Antwerp Apple April Arabic Arc
    Argentina Aristotle Arizona Arnold As Asia Assume At Athens Atlanta August Austen Australia Austria Babe Baghdad
    Baltimore Bangkok Barcelona Because Beethoven Before Beijing Belgian Belgium Bell Ben Berlin Big Bird Blue Bobby
    Boston Boxing Boy Brady Brandenburg Brazil Brazilian Brian Bridge Brussels Bryant Buckingham Budapest Bulgaria
    Bulgarian By Cairo California Cambodia Camry Canada Canadian Carl Carlsen Cathedral Cervantes Charles Chekhov Chicago
    Chile China Chinatown Chinese Chopin Christmas Chrome City Cleveland Coins Colosseum Confucius Copenhagen Copernicus
    Crosby Cuba Cuban Cybertruck Dali Dallas Damascus Dame Daniel Danish Dante Darwin David Day December Denmark Derek
    Detroit Diana Dickens Diego Djokovic Do Dublin During Early Earth Echo Edinburgh Egypt Egyptian Eiffel Einstein
    Elizabeth Emily Emma England English Eric Ethiopia Europe Every Familia February Fenway Finland Finnish First Fischer
    Florence Florida For Forbidden Ford Fountain France Francisco Frank Frankfurt French Friday Galileo Gallery Game Garry
    Gate Geneva George Georgia German Germany Ghana Ginza Goethe Google Grace Grass Greece Greek Gretzky Guangzhou Hagia
    Halloween Havana Hawaii He Hebrew Helen Helsinki Hence Henry Hirohito Honolulu House Houston Hungarian Hungary I If
    Illinois Imagine In India Indian International Iran Iranian Iraq Iraqi Ireland Irish Israel Israeli Istanbul It
    Italian Italy Jack Jackie Jamaica James Jane January Japan Japanese Jennifer Jerusalem Jessica Jeter Joe John Johnson
    Jordan Jose Joseph Julia July June Kabul Kansas Karachi Karen Kasparov Kate Kenya Kevin Kindle Kingston Kobe Kolkata
    Korea Korean Krakow Kremlin Kurosawa Kyoto Labor Lagos Larry Las Last Late Laura LeBron Lenin Leo Let Liberty Lima
    Lincoln Linda Lisa Lisbon London Los Louis Louisiana Louvre Ludwig MacBook Madrid Magic Magnus Mali Man Manning Mao
    March Maria Mark Marseille Martin Mary Maryland Massachusetts Matthew May Mays Memorial Memphis Mexican Mexico Michael
    Michelangelo Michelle Michigan Microsoft Miguel Milan Milwaukee Minneapolis Minnesota Monday Mongolia Montana Montreal
    Morocco Moscow Mosque Most Mozart Mumbai Museum Mustang Nadal Nairobi Nancy Napoleon Nashville Needle Netherlands
    Nevada New Newton Nicklaus Nicole Nigeria Nintendo Nobody Norway Norwegian Notre Novak November October Ohio Oklahoma
    On Once One Orlando Orleans Orr Osaka Oslo Ottawa Our Pakistan Palace Palmer Paris Park Parthenon Pasteur Patrick Paul
    Pele Pennsylvania People Persian Peru Peter Peyton Philadelphia Phoenix Photoshop Picasso Pittsburgh Pixel Plato
    PlayStation Poland Polish Portugal Portuguese Prado Prague Prius Puerta Rabindranath Rachel Rafael Red Reichstag Rich
    Richard Rijksmuseum Robert Robinson Romania Romanian Rome Rose Rotterdam Russia Russian Ruth Sachin Sacramento Sagrada
    Saint Salvador Salzburg San Sarah Saturday Scotland Scott Scottish Seattle September Serena Shakespeare Shane Shanghai
    She Shibuya Sidney Simon Since So Socrates Sofia Sol Sony Sophia Space Spain Spanish Square Statues Steven Stockholm
    Sunday Suppose Surface Susan Swede Sweden Swedish Switzerland Sydney Syria Tagore Tahrir Tampa Tanzania Tehran
    Tendulkar Tennessee Tesla Texas Thai Thailand That The Then There They This Thomas Thursday Tiananmen Tiger Tired To
    Today Together Tokyo Tolstoy Tom Tower Toyota Trevi Triomphe Tucson Tuesday Tulsa Turkey Turkish Uffizi Uganda Ukraine
    Ukrainian Valentine Vancouver Vegas Veterans Victoria Vietnam Vietnamese Voltaire Walkman Wall Warne Warsaw Washington
    Wayne We Wednesday Western When While White Wichita William Williams Willie Willis Wine Winners Wisconsin Women Woods
    Xbox Year Years Yesterday You Zedong Zurich a abba about above accidents actor actors actress add adjective after
    again agreed air airport all alone an and angels anger angle angry another answer ant any apple apples are arg
    argument arm arms around arrived arrow artist artists as ask asked asleep assume at attractor audience aunt author
    authors awake b baba baby back bad bag baker bakery bakes ball bank bar barley barn baseball basketball be beach
    beagle bear beautiful because bed bee beer bees beetle before began beginning begins behind below belt belts best
    between big bird birds birthday bison bite black blood blue boat boats body bone book books born bottle bottles bought
    bow box boxes boy boys brain bread bride bridge bright broccoli broom brother brown browser brush buffalo built bulbs
    bull bus busy but butcher butter button buy by c cabbage cabin cake calculator calendar calf call called came camera
    campaign can candles cannot capital car card cards career carpenter carrot carrots cars cat catches cells century
    chain chair chairs charcoal cheap cheese chemist chemistry chess chew chick chicken children chocolate chose church
    cider circle city clap class clay clean cleaned clear climb clock clocks closed cloth clothes cloud clouds coal coat
    cobra cod coffee coin coins cold collie color come comes company compass composer computer computers conditional
    conflict continent continued cook copper corn corner cotton counterpart country court cow cows cream cricket crops
    crossing crow crowd cub cucumber cup cups cut d daisy dance dangerous dark dash dates daughter day de debate decagon
    decided decorated def del dentist described dev dictionary did dig dinner dirty dish disjunctive district doctor
    doctors dog dollar dollars dolphins door doors down dream drink driver drivers drives drought dry dull e each eagle
    ear ears east easy eat eight either elephants eleven emerald empty end ended enemy engine engineer engineers enter
    envelopes euro euros evening event every everyone everything exactly exclusion expedition expensive eye eyes f face
    failure falls false family famine famous farm farmer farmers fast father fear feet female fence festival field film
    find fingers fire first fish fisherman five flag flamingo flat flies flock floor flour flower flowers fly followed
    foot football for forest forgot found four franc fresh fridge friend friends friendship from front fruit full
    furniture g game garden gate gave gentleman get gift girl girls give given gives glass go goat god goddess gold golf
    good goodbye got government grade grades grandfather grandmother grapes grass gray green groom group grown grows guard
    guards guest guests gym h had hair hall hammer hand handed handing hands happy hard has hat hate hats have hawk he
    head healthy hear heard hearing heart heater heaven heavy hell helped hen heptagon herd here hero heroine hexagon hide
    high hill historian history hockey holds holiday home hope hoped horse horses hospital hot hotel hour house how hug
    human husband i iPad iPhone ice if important in informed ingredient inside instrument into io iron is island it j
    journey joy judge just k kept ketchup key keys kick kid kind king kings kiss kitchen kitten knew knife knives know
    knows l ladder lady lake lamb lamp lamps land language large last lasted late later lavender laws lawyer lawyers
    learned leather leave left leg legs lemonade lemons length lent leopard letter letters library lick life light like
    lily line lion lions lips listen lit lives living load local located lock long look looked looks lose losers lost loud
    love low lunch m made main makes male man manager managers mango map market marriage me means measure meat mechanic
    meet met metal microscope milk mine miner minute mirror monday money month moon more morning mosquito mother mountain
    mouth moved movie mud museum music must n nail name national near need needle negative neighbor neighbors neighbours
    new news newspapers next night nine no noise noisy noon north nose not nothing novel now number numbers nurse nurses o
    oak object occupation ocean octagon of off offered office officer officers often oil old on once one only onto open
    opened operations opposite or orange order organ other out outside oven over owner p pack page paint painter paints
    pan paper param parameter park parrot party passed passes past path patient pay peace peach pearl pen pentagon people
    performs person philosopher philosophy phone phones photo photograph photographer photographs physicist physics
    pianist piano picture pictures pigeon pigeons pilot pine pink place plague plan plane planes plastic plate plates
    played player players plays plus pod poem poems poet point polarity poodle poor popcorn positive pottery pound pounds
    predicate pretend pretty price pride priest prince princess printed produced programmer programs project promise
    promised pumpkin pup puppy purple python q queen queens question quickly quiet quietly quite r radio rain rained
    raised ran rather raven read reason rebellion red reign remembering repairs responsible restaurant rested result
    returned revolution rice rich right ring rings river road roof room rooster rope rotten rubber ruler s sad saddles
    safe said salt same sand sapphire sardines sat saw say says scale school schools score sea seal search second secret
    secretly see seeing selector self sell sells seven sew shadow shape shark sharp she sheep ship shirt shoe shoot
    shopping short should shovel showed sick sides siege sign silver since singer singers sings sister sits six skin sky
    sleep slow small smell smelling smiled smoke snake sniff snow snowed so soccer sock soft soldier soldiers solstice
    someone son song songs soon sorry soup source south soy spaniel spanned sparrow speak speaker spent spider spinach
    spoke spoon sport spring square stamp star stars start started state station stayed steel steep stone stood stop
    stopped store storm story stove strange strawberry street strong struggle student students studies study subject
    success sugar sulfur summer sun sunrise suppose surgeon swan swarm sweaters sweating sweep system t table tables
    tablet tailor take takes talked tall tar taste tasting taught taxi tea teacher teachers teaches teeth telescope
    temperature ten tennis test thanked that the theater their then there therefore thermometer they thick thin thing
    things think thinking this thought three threw ticket tiger time tiny tired tires to toast today tofu together told
    tollens tomato tongue too took tool tooth tour tourists towel towels tower toy toys train trains trapezoid travel tray
    treats tree trees trial triangle trip truck true trust tulip tuna twelve two type u uncle universal unless unlock
    until up us use used usually v valley van vegetable very villain violin viper visit visited visitors w waited walk
    walked wall want wanted war warm was watch water wave wax way we weak wedding week weigh went were west wet whale
    whales wheat wheel when where which while white who whole why wife willow win wind window windows wine winter witch
    with wizard woke wolves woman won wondered wood wool word work worker workers working works world worried would write
    writer writers writes written wrong x year years yellow yen yes yogurt you young
"""
WORDS = tuple(_TEXT.split())
