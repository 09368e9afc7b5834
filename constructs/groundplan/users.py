from __future__ import annotations

from aws_cdk import Duration
from aws_cdk import aws_cognito as cognito
from constructs import Construct

from groundplan.permissions import acknowledge
from groundplan.removal import removal


class Users(Construct):
    """A Cognito user pool, with sign-in by e-mail address and a strong password, and its app client.

    :param self_sign_up: whether users may create accounts themselves. Default: False, an administrator
        invites them.
    :param retain: whether the accounts remain when the stack is deleted. Default: False.
    :param deletion_protection: whether Amazon Cognito refuses to delete the pool. This also blocks the
        rollback of a first deployment, so enable it after the stack was created. Default: False.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        self_sign_up: bool = False,
        retain: bool = False,
        deletion_protection: bool = False,
    ) -> None:
        super().__init__(scope, id)
        self.pool = cognito.UserPool(
            self,
            "Pool",
            self_sign_up_enabled=self_sign_up,
            sign_in_aliases=cognito.SignInAliases(email=True),
            sign_in_case_sensitive=False,
            auto_verify=cognito.AutoVerifiedAttrs(email=True),
            # a new email address takes effect only after its verification, so that a user cannot take another
            # user's address
            keep_original=cognito.KeepOriginalAttrs(email=True),
            password_policy=cognito.PasswordPolicy(
                min_length=12,
                require_lowercase=True,
                require_uppercase=True,
                require_digits=True,
                require_symbols=True,
                temp_password_validity=Duration.days(3),
            ),
            mfa=cognito.Mfa.OPTIONAL,
            mfa_second_factor=cognito.MfaSecondFactor(sms=False, otp=True),
            account_recovery=cognito.AccountRecovery.EMAIL_ONLY,
            deletion_protection=deletion_protection,
            removal_policy=removal(retain),
        )
        """The user pool."""
        acknowledge(
            self.pool,
            {
                "AwsSolutions-COG2": "A second factor is the user's choice: the pictures are theirs.",
                "AwsSolutions-COG3": "Threat protection is a paid plan; who wants it sets it on the pool.",
                "AwsSolutions-COG8": "The Plus plan is paid for each user; who wants it sets it on the pool.",
            },
        )
        self.client = self.pool.add_client(
            "Client",
            # a web page cannot keep a secret
            generate_secret=False,
            auth_flows=cognito.AuthFlow(user_password=True, user_srp=True),
            disable_o_auth=True,
            prevent_user_existence_errors=True,
            enable_token_revocation=True,
            access_token_validity=Duration.hours(1),
            id_token_validity=Duration.hours(1),
            refresh_token_validity=Duration.days(7),
        )
        """The app client of a web page, without a secret."""
