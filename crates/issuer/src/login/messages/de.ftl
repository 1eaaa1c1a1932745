# Was die Seiten auf Deutsch sagen. Jede Datei hat dieselben Texte mit denselben Werten.

## Auf jeder Seite

skip-to-content = Zum Inhalt springen
language = Sprache
terms = Nutzungsbedingungen
privacy = Datenschutz
home-page = Startseite
details = Einzelheiten:
request-id = Anfrage:
error-prefix = Fehler:
continue = Weiter
cancel = Abbrechen

## Startseite

home-title = Eine Anmeldung für alle Apps
home-lead = Melden Sie sich hier einmal an, und jede App, die diesem Dienst vertraut, kennt Sie.
home-signed-in = Sie sind angemeldet.
hello = Hallo, { $name }
your-account = Ihr Konto
to-home = Startseite dieses Dienstes

## Anmelden

sign-in = Anmelden
sign-in-lead = Mit Ihrem Konto bei { $site }
continue-to = Weiter zu { $app }
username = Benutzername oder E-Mail-Adresse
password = Passwort
remember = Angemeldet bleiben
remember-hint = Nur auf einem eigenen Gerät.
app-links = Über { $app }:
sign-in-missing = Geben Sie Benutzername oder E-Mail-Adresse und Ihr Passwort ein.
sign-in-refused = Benutzername und Passwort passen nicht zusammen. Prüfen Sie beides und versuchen Sie es noch einmal.
sign-in-throttled =
    { $minutes ->
        [one] Zu viele Versuche. Warten Sie eine Minute und versuchen Sie es dann noch einmal.
       *[other] Zu viele Versuche. Warten Sie { $minutes } Minuten und versuchen Sie es dann noch einmal.
    }
sign-in-busy = Gerade melden sich viele Menschen an. Versuchen Sie es gleich noch einmal.

## Konto wählen

choose-account = Konto wählen
another-account = Anderes Konto verwenden

## Zustimmung

consent-title = { $app } bittet um Zugriff
consent-lead = Wenn Sie zustimmen, kann diese App:
consent-later = Sie können das jederzeit auf Ihrer Kontoseite zurücknehmen.
allow = Zulassen
deny = Nicht zulassen
scope-openid = Wissen, dass Sie jedes Mal dieselbe Person sind
scope-profile = Ihren Namen und Ihr Profil sehen
scope-email = Ihre E-Mail-Adresse sehen
scope-address = Ihre Postanschrift sehen
scope-phone = Ihre Telefonnummer sehen
scope-roles = Ihre Rollen und Gruppen sehen
scope-offline_access = Den Zugriff behalten, während Sie weg sind
scope-other = Benutzen:

## Kontoseite

profile = Profil
user-name = Benutzername
full-name = Name
email = E-Mail-Adresse
verified = Bestätigt
not-verified = Nicht bestätigt
changed = Geändert:
password-set = Gesetzt
no-password = Sie haben keines.
sessions = Wo Sie angemeldet sind
sessions-lead = Wenn Sie ein Gerät nicht kennen, melden Sie es ab und ändern Sie Ihr Passwort.
device = { $browser } auf { $system }
device-unknown = Unbekanntes Gerät
this-device = Dieses Gerät
last-seen = Zuletzt gesehen:
signed-in-at = Angemeldet:
sign-out = Abmelden
sign-out-others = Alle anderen Geräte abmelden
sign-out-everywhere = Überall abmelden
sign-out-apps = Auch beenden, was Apps dürfen, während ich abgemeldet bin
apps = Apps mit Zugriff
apps-lead = Diese Apps sehen, was Sie ihnen erlaubt haben.
no-apps = Keine App hat Zugriff auf Ihr Konto.
since = Seit
remove-access = Zugriff entziehen
done-signed-out = Das Gerät ist abgemeldet.
done-signed-out-others = Alle anderen Geräte sind abgemeldet.
done-app-removed = Die App hat keinen Zugriff mehr.
done-password-changed = Ihr Passwort ist geändert.

## Passwort ändern

change-password = Passwort ändern
password-lead = Das neue gilt ab der nächsten Anmeldung.
password-declared = Ihr Passwort legen die Betreiber dieses Dienstes fest. Bitten Sie sie, es zu ändern.
back-to-account = Zurück zu Ihrem Konto
current-password = Jetziges Passwort
new-password = Neues Passwort
new-password-again = Neues Passwort noch einmal
password-rule = Mindestens { $length } Zeichen. Einige Wörter, die nur Sie zusammenstellen würden, sind besser als Ziffern und Sonderzeichen.
password-missing = Geben Sie Ihr jetziges Passwort ein und das neue zweimal.
password-wrong = Das ist nicht Ihr jetziges Passwort.
password-differs = Die beiden neuen Passwörter sind nicht gleich.
password-same = Das neue Passwort ist Ihr jetziges. Wählen Sie ein anderes.
password-short = Das neue Passwort braucht mindestens { $length } Zeichen.
password-long = Das neue Passwort ist zu lang.
password-control = Das neue Passwort enthält ein Zeichen, das man nicht tippen kann. Wählen Sie ein anderes.
password-common = Dieses Passwort steht auf Listen, die Angreifer zuerst probieren. Wählen Sie ein anderes.
password-personal = Das neue Passwort enthält Ihren Namen oder Ihre Adresse. Wählen Sie ein anderes.
password-throttled =
    { $minutes ->
        [one] Zu viele Versuche. Warten Sie eine Minute und versuchen Sie es dann noch einmal.
       *[other] Zu viele Versuche. Warten Sie { $minutes } Minuten und versuchen Sie es dann noch einmal.
    }
password-busy = Der Dienst ist gerade ausgelastet. Versuchen Sie es gleich noch einmal.

## Abmelden

sign-out-title = Abmelden?
sign-out-lead = Sie werden von diesem Dienst und von den Apps abgemeldet, die Sie auf diesem Gerät damit benutzt haben.
sign-out-asked = { $app } möchte Sie hier und von den anderen Apps auf diesem Gerät abmelden.
stay-signed-in = Angemeldet bleiben
signed-out = Sie sind abgemeldet
signed-out-lead = Schließen Sie auf einem gemeinsam genutzten Computer auch den Browser.
sign-in-again = Wieder anmelden
signing-out-of-apps = Abmelden von Apps
back-to = Zurück zu { $app }

## Wenn etwas nicht stimmt

fault-unreadable-title = Das konnten wir nicht lesen
fault-unreadable = Die Adresse oder das Formular ist unvollständig oder sagt etwas doppelt. Gehen Sie zurück und versuchen Sie es noch einmal.
fault-too-large-title = Das ist zu viel
fault-too-large = Das Formular enthält mehr, als wir annehmen. Gehen Sie zurück und kürzen Sie es.
fault-cross-site-title = Das kam von einer anderen Website
fault-cross-site = Eine andere Website wollte dieses Formular in Ihrem Namen senden, deshalb ist nichts geschehen. Wenn Sie es selbst waren, beginnen Sie auf unserer eigenen Seite.
fault-stale-form-title = Diese Seite ist veraltet
fault-stale-form = Sie war zu lange offen, oder Cookies sind abgeschaltet; es ist nichts geschehen. Gehen Sie zurück, laden Sie die Seite neu und versuchen Sie es noch einmal.
fault-no-request-title = Hier geht es nicht weiter
fault-no-request = Diese Seite gehört zur Anmeldung bei einer App, und die ist vorbei. Gehen Sie zurück zur App und beginnen Sie von vorn.
fault-no-client-title = Welche App?
fault-no-client = Die App, die Sie hierher geschickt hat, hat nicht gesagt, wer sie ist. Gehen Sie zurück und versuchen Sie es noch einmal; wenn das nicht hilft, sagen Sie es ihren Betreibern.
fault-unknown-client-title = Wir kennen diese App nicht
fault-unknown-client = Die App, die Sie hierher geschickt hat, ist bei diesem Dienst nicht registriert. Sagen Sie es ihren Betreibern.
fault-no-redirect-uri-title = Die App hat kein Ziel genannt
fault-no-redirect-uri = Ohne Adresse können wir Sie nicht zurückschicken. Sagen Sie es den Betreibern der App.
fault-unknown-redirect-uri-title = Diese Adresse gehört nicht zur App
fault-unknown-redirect-uri = Zu Ihrem Schutz schicken wir Menschen nur an Adressen, die die App registriert hat, und diese gehört nicht dazu. Sagen Sie es den Betreibern der App.
fault-bad-logout-title = So können wir Sie nicht abmelden
fault-bad-logout = Die Anfrage der App ist falsch, deshalb ist nichts geschehen. Sie können sich auf Ihrer Kontoseite abmelden.
fault-unavailable-title = Einen Moment bitte
fault-unavailable = Der Dienst kann gerade nicht antworten. Es ist nichts verloren: Versuchen Sie es in einigen Sekunden noch einmal.

## Zeitpunkte

moment-now = gerade eben
moment-minutes =
    { $count ->
        [one] vor einer Minute
       *[other] vor { $count } Minuten
    }
moment-hours =
    { $count ->
        [one] vor einer Stunde
       *[other] vor { $count } Stunden
    }
moment-date =
    { $month ->
        [1] { $day }. Januar { $year }
        [2] { $day }. Februar { $year }
        [3] { $day }. März { $year }
        [4] { $day }. April { $year }
        [5] { $day }. Mai { $year }
        [6] { $day }. Juni { $year }
        [7] { $day }. Juli { $year }
        [8] { $day }. August { $year }
        [9] { $day }. September { $year }
        [10] { $day }. Oktober { $year }
        [11] { $day }. November { $year }
       *[12] { $day }. Dezember { $year }
    }
