//! The keys under `keys.example/`, so that nobody signs in earnest with a private key that everybody has.

/// The `kid` (RFC 7638 thumbprint) of every key under `keys.example/`, in the order of the file names.
pub(crate) const EXAMPLE_KIDS: [&str; 8] = [
    "TkMAfzq77ZL2Nrknbh_G833FYKKvAtRr1YSER2x68CY", // ed25519.jwk
    "ZNght5IN4tBckmbBrGaDHrz8FkPRPv-sRt9KkdRoUWk", // ed25519.pem
    "QvOdETExsh47foXqIBowNbMO482BTVVi0FGxpgD2kQ4", // es256.jwk
    "zrtcBXtwgcTRo6DlOof1ymc-qo-00KpiclbQiUU7GxI", // es256.pem
    "l4Df1wg2s-flYwcAPE09s_YdrcZRBOBJGrMaa3MFaig", // es256.sec1.pem
    "WA6frvIYP0WMWxvsEBhstNelDoOlcW5Ep9sPfN_h3OM", // rs256.jwk
    "sE1haEvHMenhhf_G_QojIr9n7YBrUPbcf2NmTxDLMbE", // rs256.pem
    "wQPt-IkWYhJe67TqksGgiLghaePjZO61Vd8NQEM_Wm4", // rs256.pkcs1.pem
];

/// Is this the `kid` of a published example key, whose private half proves nothing?
pub(crate) fn is_example(kid: &str) -> bool {
    EXAMPLE_KIDS.contains(&kid)
}
