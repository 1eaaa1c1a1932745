# What the pages say in English. Every other file has the same messages with the same arguments.
# Titles and buttons have no full stop; sentences do.

## On every page

skip-to-content = Skip to the content
language = Language
terms = Terms
privacy = Privacy
home-page = Home page
details = Details:
request-id = Request:
error-prefix = Error:
continue = Continue
cancel = Cancel

## Home

home-title = One sign-in for all your apps
home-lead = Sign in here once, and every app that trusts this place knows you.
home-signed-in = You are signed in.
hello = Hello, { $name }
your-account = Your account
to-home = Home page of this service

## Signing in

sign-in = Sign in
sign-in-lead = With your { $site } account
continue-to = Continue to { $app }
username = User name or e-mail address
password = Password
remember = Keep me signed in
remember-hint = Only on a device of your own.
app-links = About { $app }:
sign-in-missing = Enter your user name or e-mail address, and your password.
sign-in-refused = That user name and password don’t go together. Check both and try again.
sign-in-throttled =
    { $minutes ->
        [one] Too many attempts. Wait a minute, then try again.
       *[other] Too many attempts. Wait { $minutes } minutes, then try again.
    }
sign-in-busy = Many people are signing in right now. Try again in a moment.

## Choosing an account

choose-account = Choose an account
another-account = Use another account

## Consent

consent-title = { $app } asks for access
consent-lead = If you allow it, this app can:
consent-later = You can take this back at any time on your account page.
allow = Allow
deny = Don’t allow
scope-openid = Know that you are the same person each time
scope-profile = See your name and profile
scope-email = See your e-mail address
scope-address = See your postal address
scope-phone = See your phone number
scope-roles = See your roles and groups
scope-offline_access = Keep its access while you are away
scope-other = Use

## Account

profile = Profile
user-name = User name
full-name = Name
email = E-mail address
verified = Confirmed
not-verified = Not confirmed
changed = Changed
password-set = Set
no-password = You have none.
sessions = Where you are signed in
sessions-lead = If you don’t recognise a device, sign it out and change your password.
device = { $browser } on { $system }
device-unknown = Unknown device
this-device = This device
last-seen = Last seen
signed-in-at = Signed in
sign-out = Sign out
sign-out-others = Sign out all other devices
sign-out-everywhere = Sign out everywhere
sign-out-apps = Also end what apps may do while I am signed out
apps = Apps with access
apps-lead = These apps can see what you allowed them.
no-apps = No app has access to your account.
since = Since
remove-access = Remove access
done-signed-out = That device is signed out.
done-signed-out-others = All other devices are signed out.
done-app-removed = The app no longer has access.
done-password-changed = Your password is changed.

## Changing the password

change-password = Change password
password-lead = You’ll use the new one from the next time you sign in.
password-declared = Your password is set by whoever runs this service. Ask them to change it.
back-to-account = Back to your account
current-password = Current password
new-password = New password
new-password-again = New password, once more
password-rule = At least { $length } characters. A few words that only you would put together are better than signs and digits.
password-missing = Enter your current password, and the new one twice.
password-wrong = That is not your current password.
password-differs = The two new passwords are not the same.
password-same = The new password is the one you have now. Choose another.
password-short = The new password needs at least { $length } characters.
password-long = The new password is too long.
password-control = The new password holds a character that can’t be typed. Choose another.
password-common = That password is on lists that attackers try first. Choose another.
password-personal = The new password holds your name or address. Choose another.
password-throttled =
    { $minutes ->
        [one] Too many attempts. Wait a minute, then try again.
       *[other] Too many attempts. Wait { $minutes } minutes, then try again.
    }
password-busy = The service is busy right now. Try again in a moment.

## Signing out

sign-out-title = Sign out?
sign-out-lead = You’ll be signed out of this service and the apps you used with it on this device.
sign-out-asked = { $app } asks to sign you out here, and of the other apps on this device.
stay-signed-in = Stay signed in
signed-out = You are signed out
signed-out-lead = On a shared computer, close the browser as well.
sign-in-again = Sign in again
signing-out-of-apps = Signing out of apps
back-to = Back to { $app }

## When something is wrong

fault-unreadable-title = We couldn’t read that
fault-unreadable = The address or the form is incomplete or says something twice. Go back and try again.
fault-too-large-title = That is too much
fault-too-large = The form holds more than we accept. Go back and shorten it.
fault-cross-site-title = That came from another site
fault-cross-site = Another website tried to send this form in your name, so nothing was done. If it was you, start from our own page.
fault-stale-form-title = This page is out of date
fault-stale-form = It was open for too long, or cookies are switched off, so nothing was done. Go back, reload the page and try again.
fault-no-request-title = Nothing to continue
fault-no-request = This page belongs to the sign-in of an app, and that is over. Go back to the app and start again.
fault-no-client-title = Which app?
fault-no-client = The app that sent you here did not say who it is. Go back to it and try again; if that doesn’t help, tell whoever runs it.
fault-unknown-client-title = We don’t know this app
fault-unknown-client = The app that sent you here is not registered with this service. Tell whoever runs it.
fault-no-redirect-uri-title = The app didn’t say where to return
fault-no-redirect-uri = Without an address we can’t send you back. Tell whoever runs the app.
fault-unknown-redirect-uri-title = This address isn’t the app’s
fault-unknown-redirect-uri = To protect you, we only send people to addresses that the app has registered, and this isn’t one. Tell whoever runs the app.
fault-bad-logout-title = We can’t sign you out like this
fault-bad-logout = The app’s request is wrong, so nothing was done. You can sign out on your account page.
fault-unavailable-title = One moment, please
fault-unavailable = The service can’t answer right now. Nothing was lost: try again in a few seconds.

## Moments

moment-now = just now
moment-minutes =
    { $count ->
        [one] a minute ago
       *[other] { $count } minutes ago
    }
moment-hours =
    { $count ->
        [one] an hour ago
       *[other] { $count } hours ago
    }
moment-date =
    { $month ->
        [1] { $day } January { $year }
        [2] { $day } February { $year }
        [3] { $day } March { $year }
        [4] { $day } April { $year }
        [5] { $day } May { $year }
        [6] { $day } June { $year }
        [7] { $day } July { $year }
        [8] { $day } August { $year }
        [9] { $day } September { $year }
        [10] { $day } October { $year }
        [11] { $day } November { $year }
       *[12] { $day } December { $year }
    }
